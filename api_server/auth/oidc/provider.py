"""A provider's description and keys, kept for a while.

              age < fresh          served
    fresh  <= age < stale          fetched anew; what is kept is served when that fails
    stale  <= age                  fetched anew; 503 sign_in_unavailable when that fails

However many ask at once, one of them fetches. A failure is remembered for some seconds, so that a provider in trouble
is not asked by every request. A token with an unknown key id fetches the keys at once, but not more than twice a
minute: whoever can send us tokens must not be able to make us send requests (Core section 10.1.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from api_server.auth.oidc.errors import ProviderUnavailableError, TokenError, UnknownKeyError
from api_server.auth.oidc.fetcher import Fetcher
from api_server.auth.oidc.jose import KeySet, Verified, verify
from api_server.auth.oidc.metadata import ProviderMetadata, discovery_url, read_metadata
from common.clock import Clock

__all__ = ["Provider"]

T = TypeVar("T")

_METADATA_FRESH = 3600.0
_METADATA_STALE = 24 * 3600.0
_KEYS_FRESH = 600.0
_KEYS_STALE = 3600.0
"""Seconds. A key that the provider withdrew because somebody has it must not verify for long."""
_FAILURE_KEPT = 5.0
_ANEW_INTERVAL = 30.0
"""Seconds between two fetches of keys that unknown key ids ask for."""


class _Kept(Generic[T]):
    """A value that is fetched when it is needed and not fresh."""

    def __init__(
        self, fetch: Callable[[], Awaitable[T]], clock: Clock, *, fresh: float, stale: float, least: float = 0.0
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._fresh = fresh
        self._stale = stale
        self._least = least
        self._lock = asyncio.Lock()
        self._value: T | None = None
        self._fetched_at = 0.0
        self._failure: ProviderUnavailableError | None = None
        self._failed_at = 0.0

    def _age(self) -> float:
        return self._clock.monotonic() - self._fetched_at

    async def get(self) -> T:
        if self._value is not None and self._age() < self._fresh:
            return self._value
        async with self._lock:
            if self._value is not None and self._age() < self._fresh:
                return self._value
            try:
                return await self._fetched()
            except ProviderUnavailableError:
                if self._value is not None and self._age() < self._stale:
                    return self._value
                raise

    async def get_anew(self, known: T) -> T:
        """What there is after `known`, which is not enough; `known` itself when it was fetched only just now."""
        async with self._lock:
            assert self._value is not None
            if self._value is not known or self._age() < self._least:
                return self._value
            return await self._fetched()

    async def _fetched(self) -> T:
        now = self._clock.monotonic()
        if self._failure is not None and now - self._failed_at < _FAILURE_KEPT:
            raise ProviderUnavailableError(self._failure.detail, retry_after=self._failure.retry_after)
        try:
            self._value = await self._fetch()
        except ProviderUnavailableError as exc:
            self._failure, self._failed_at = exc, self._clock.monotonic()
            raise
        self._failure = None
        self._fetched_at = self._clock.monotonic()
        return self._value


class Provider:
    """An OpenID provider, as far as anybody may know it.

    Args:
        issuer: its name, which is a URL.
        fetcher: sends requests.
        clock: for the age of what is kept.
    """

    def __init__(self, issuer: str, fetcher: Fetcher, clock: Clock) -> None:
        self.issuer = issuer
        self._fetcher = fetcher
        self._metadata = _Kept(self._fetch_metadata, clock, fresh=_METADATA_FRESH, stale=_METADATA_STALE)
        self._keys = _Kept(self._fetch_keys, clock, fresh=_KEYS_FRESH, stale=_KEYS_STALE, least=_ANEW_INTERVAL)

    async def metadata(self) -> ProviderMetadata:
        """Its description.

        Raises:
            ProviderUnavailableError: it cannot be had.
        """
        return await self._metadata.get()

    async def verified(self, token: str, *, error: type[TokenError], types: tuple[str | None, ...]) -> Verified:
        """A token of the provider, once its signature holds; see `jose.verify`.

        Raises:
            ProviderUnavailableError: the keys cannot be had.
            TokenError: `error`: the token does not hold.
        """
        algorithms = (await self.metadata()).algorithms
        keys = await self._keys.get()
        try:
            return verify(token, keys, algorithms=algorithms, error=error, types=types)
        except UnknownKeyError:
            pass
        try:
            return verify(token, await self._keys.get_anew(keys), algorithms=algorithms, error=error, types=types)
        except UnknownKeyError as exc:
            raise error(exc.detail) from exc

    async def _fetch_metadata(self) -> ProviderMetadata:
        document = await self._document(discovery_url(self.issuer))
        try:
            return read_metadata(document, self.issuer)
        except ValueError as exc:
            raise ProviderUnavailableError(f"the provider cannot be used: {exc}", retry_after=_FAILURE_KEPT) from exc

    async def _fetch_keys(self) -> KeySet:
        document = await self._document((await self.metadata()).jwks_uri)
        try:
            keys = KeySet(document)
        except ValueError as exc:
            raise ProviderUnavailableError(f"the provider's keys: {exc}", retry_after=_FAILURE_KEPT) from exc
        if not len(keys):
            raise ProviderUnavailableError("the provider publishes no usable key", retry_after=_FAILURE_KEPT)
        return keys

    async def _document(self, url: str) -> bytes:
        answer = await self._fetcher.get(url)
        if answer.status != 200:
            raise ProviderUnavailableError(f"the provider answers {answer.status} at {url}", retry_after=_FAILURE_KEPT)
        return answer.body
