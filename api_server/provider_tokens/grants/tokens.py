"""`TokenManager`: provider tokens and offline tokens, from the day that they are given to that of their revocation.

store_provider_tokens, store_offline_token    after somebody has connected, or signed in
access_token, offline_access_token            one that lasts for a call, refreshed once whoever asks
load_offline_token                            as it is
revoke                                        at the provider first, then here: what is left behind is never more
                                              than a record whose tokens are dead
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.errors import RecordConflictError
from api_server.custody.interfaces import Also
from api_server.leases.interfaces import Leases
from api_server.provider_tokens.errors import (
    ConnectionChangedError,
    ConnectionNotFoundError,
    OfflineTokenNotFoundError,
    ProviderAwayError,
    ProviderNotFoundError,
    ProviderRefusesClientError,
)
from api_server.provider_tokens.grants.attempts import Attempts
from api_server.provider_tokens.grants.records import Grant, GrantKey
from api_server.provider_tokens.grants.refresher import Refresher, Sources
from api_server.provider_tokens.grants.store import AuthTokenStore, GrantRecords, OfflineTokenStore
from api_server.provider_tokens.providers.answers import GivenTokens
from common.backoff import Backoff
from common.clock import Clock
from common.logging import Logger, get_logger
from common.secret import Secret

__all__ = ["Revoked", "TokenManager"]

_LEASE = 15.0
_WAIT_FOR_A_REFRESH = 20.0
"""Seconds that a disconnect waits for a refresh that is under way: longer than an exchange with a provider."""
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Revoked:
    """How a grant ended."""

    at_provider: bool
    """Whether the provider says that it is taken back there."""
    problem: str | None
    """A code: why not; `no_revocation` where the provider has no way but the person's own."""


class TokenManager:
    """All of it.

    Args:
        records: where grants are kept.
        attempts: marks of refreshes.
        leases: one at a time.
        refresher: refreshes.
        sources: the providers.
        clock: of both kinds.
        sleep: waits for so many seconds.
        log: for what a provider did not do.
    """

    def __init__(
        self,
        records: GrantRecords,
        attempts: Attempts,
        leases: Leases,
        refresher: Refresher,
        sources: Sources,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self._records = records
        self._attempts = attempts
        self._leases = leases
        self._refresher = refresher
        self._sources = sources
        self._clock = clock
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)

    def auth_tokens(self, key: GrantKey) -> AuthTokenStore:
        """The tokens of one person in one team at one provider."""
        return AuthTokenStore(key, self._records, self._clock)

    def offline_tokens(self, user: str) -> OfflineTokenStore:
        """The offline token of one person."""
        return OfflineTokenStore(user, self._records, self._clock)

    async def ready(self) -> None:
        """Whether tokens that a provider gives now could be kept.

        Raises:
            CustodyError: they could not.
        """
        await self._records.ready()

    async def store_provider_tokens(
        self,
        key: GrantKey,
        given: GivenTokens,
        *,
        asked_at: float,
        asked_for: tuple[str, ...],
        account: str | None,
        also: Also,
    ) -> Grant:
        """Keep what a provider gave for a code.

        Args:
            key: whose it is.
            given: as the provider gave it.
            asked_at: when it was asked; lives count from there.
            asked_for: scopes, which are granted where the provider does not say otherwise.
            account: who the person is there.
            also: done in the same transaction, as the last.
        """

        async def settled(tx: AsyncConnection) -> None:
            # A refresh of what was there before has nothing to keep any more.
            await self._attempts.settle(tx, key)
            await also(tx)

        return await self.auth_tokens(key).store_tokens(
            given.access_token,
            given.refresh_token,
            0.0 if given.expires_in is None else asked_at + given.expires_in,
            0.0 if given.refresh_expires_in is None else asked_at + given.refresh_expires_in,
            scopes=given.scopes if given.scopes is not None else asked_for,
            account=account,
            also=settled,
        )

    async def store_offline_token(
        self, user: str, offline_token: Secret, *, expires_at: float, scopes: tuple[str, ...], also: Also
    ) -> None:
        """Keep the offline token that came with a sign-in; see `OfflineTokenStore.store_token`."""
        store = self.offline_tokens(user)

        async def settled(tx: AsyncConnection) -> None:
            await self._attempts.settle(tx, store.key)
            await also(tx)

        await store.store_token(offline_token, expires_at=expires_at, scopes=scopes, also=settled)

    async def access_token(self, key: GrantKey) -> Grant:
        """A grant whose access token lasts for a call; see `Refresher`."""
        return await self.auth_tokens(key).load_tokens(self._refresher)

    async def offline_access_token(self, user: str) -> Grant:
        """The same at the provider of sign-in, by the offline token.

        Raises:
            OfflineTokenNotFoundError: none is kept.
        """
        try:
            return await self._refresher(GrantKey.offline(user))
        except ConnectionNotFoundError:
            raise OfflineTokenNotFoundError("no offline token is kept") from None

    async def load_offline_token(self, user: str) -> Secret:
        """The offline token itself. It leaves no process.

        Raises:
            OfflineTokenNotFoundError: none is kept.
        """
        return await self.offline_tokens(user).load_token()

    async def revoke(self, key: GrantKey, also: Callable[[AsyncConnection, Revoked], Awaitable[None]]) -> Revoked:
        """Take a grant back at the provider, and forget it. A provider that is away keeps nobody from forgetting.

        Args:
            key: whose it is.
            also: done in the transaction that forgets it, as the last, with how it ended.

        Raises:
            ConnectionChangedError: others change it without end.
            ConnectionNotFoundError: there is none.
        """
        backoff = Backoff(base=0.05, maximum=0.5)
        until = self._clock.monotonic() + _WAIT_FOR_A_REFRESH
        while True:
            await self._records.get(key)
            async with self._leases.hold(key.lease, _LEASE) as lease:
                if lease is not None or self._clock.monotonic() >= until:
                    return await self._revoke(key, also)
            await self._sleep(backoff.next_delay())

    async def _revoke(self, key: GrantKey, also: Callable[[AsyncConnection, Revoked], Awaitable[None]]) -> Revoked:
        revoked = Revoked(False, None)

        async def settled(tx: AsyncConnection) -> None:
            await self._attempts.settle(tx, key)
            await self._leases.forget(tx, key.lease)
            await also(tx, revoked)

        for _ in range(_ATTEMPTS):
            grant = await self._records.get(key)
            revoked = await self._at_provider(key, grant)
            try:
                await self._records.delete(key, expected=grant.version, also=settled)
            except RecordConflictError:
                continue
            return revoked
        raise ConnectionChangedError("others change it at the same time; try again", retry_after=1)

    async def _at_provider(self, key: GrantKey, grant: Grant) -> Revoked:
        attempt = await self._attempts.pending(key)
        tokens = [(grant.access_token, grant.refresh_token)]
        if attempt is not None and attempt.version == grant.version and attempt.answer is not None:
            # What a crash had left: newer than what is in the record.
            tokens.insert(0, (attempt.answer.given.access_token, attempt.answer.given.refresh_token))
        try:
            source = self._sources(key)
            done = [await source.revoke(access, refresh) for access, refresh in tokens]
        except (ProviderAwayError, ProviderNotFoundError, ProviderRefusesClientError) as exc:
            self._log.warning("a grant is not revoked at its provider", record=key.record_id, code=exc.code)
            return Revoked(False, exc.code)
        return Revoked(True, None) if all(done) else Revoked(False, "no_revocation")
