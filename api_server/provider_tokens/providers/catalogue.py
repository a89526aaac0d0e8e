"""The providers that are set up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api_server.provider_tokens.errors import ProviderNotFoundError
from api_server.provider_tokens.providers.client import ProviderClient
from api_server.provider_tokens.providers.sending import ProviderHttp
from api_server.provider_tokens.settings import ProviderSettings
from common.clock import Clock

__all__ = ["Providers"]


class Providers:
    """All of them.

    Args:
        settings: by name.
        http: sends requests.
        clock: of both kinds.
    """

    def __init__(self, settings: Mapping[str, ProviderSettings], *, http: ProviderHttp, clock: Clock) -> None:
        self._clients = {
            name: ProviderClient(name, each, http=http, clock=clock) for name, each in sorted(settings.items())
        }

    def get(self, name: str) -> ProviderClient:
        """One of them.

        Raises:
            ProviderNotFoundError: there is none of that name.
        """
        found = self._clients.get(name)
        if found is None:
            raise ProviderNotFoundError("no such provider is set up; /api/providers lists those that are")
        return found

    def knows(self, name: str) -> bool:
        """Whether there is one of that name."""
        return name in self._clients

    def after(self, name: str, limit: int) -> Sequence[ProviderClient]:
        """Those whose names come after `name`, at most `limit`."""
        return [client for each, client in self._clients.items() if each > name][:limit]
