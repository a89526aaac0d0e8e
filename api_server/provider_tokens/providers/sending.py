"""Who sends requests to providers: as `auth.oidc` does it, with what GitHub needs beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from api_server.auth.oidc.answer import Answer
from api_server.auth.oidc.errors import ProviderUnavailableError
from api_server.auth.oidc.fetcher import Fetcher

__all__ = ["NotAskedError", "ProviderHttp"]


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
