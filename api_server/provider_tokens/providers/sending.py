"""Who sends requests to providers: as `auth.oidc` does it, with what GitHub needs beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from api_server.auth.oidc.answer import Answer
from api_server.auth.oidc.errors import ProviderUnavailableError
from api_server.auth.oidc.fetcher import Fetcher

__all__ = ["FetcherHttp", "NotAskedError", "ProviderHttp"]


class NotAskedError(ProviderUnavailableError):
    """Nothing was sent to the provider, or it says that it has done nothing: the same again is no second time."""


class ProviderHttp(Fetcher, Protocol):
    """Sends requests to providers."""

    async def delete(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        """Delete something, as a body says.

        Raises:
            ProviderUnavailableError: as `get`.
        """
        ...


class FetcherHttp:
    """A `ProviderHttp` of what sends the requests of sign-in: its provider is reached as sign-in reaches it.

    Args:
        fetcher: sends them.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._fetcher.get(url, headers)

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        return await self._fetcher.post(url, form, headers)

    async def delete(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:  # noqa: ARG002
        raise NotAskedError("the provider of sign-in is not asked to delete anything")

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._fetcher.aclose()
