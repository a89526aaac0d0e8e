"""`/api/providers`: what people can connect."""

from __future__ import annotations

import msgspec

from api_server.auth.interfaces import Action
from api_server.http.routes import ListQuery, Route, cut_page
from api_server.provider_tokens.providers.catalogue import Providers
from api_server.provider_tokens.settings import ProviderKind

__all__ = ["ProviderEndpoints"]


class ShownProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that is set up."""

    id: str
    """As it stands in paths."""
    title: str
    """For people."""
    kind: ProviderKind
    url: str
    """Base URL; of an OpenID provider the issuer."""
    scopes: tuple[str, ...]
    """What is asked for when somebody connects it."""


class ProviderPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of providers."""

    items: list[ShownProvider]
    next: str | None = None


class ProviderEndpoints:
    """Serves `/api/providers`.

    Args:
        providers: that are set up.
    """

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(
                method="GET",
                path="/api/providers",
                handler=self.list_providers,
                action=Action.PROVIDER_TOKENS_READ,
                every_team=True,
            )
        ]

    async def list_providers(self, query: ListQuery) -> ProviderPage:
        """List the providers that can be connected.

        They are the same in every team: the installation's settings name them.
        """
        found = self._providers.after(query.cursor or "", query.limit + 1)
        items, after = cut_page(found, query.limit, lambda each: each.name)
        return ProviderPage(
            items=[
                ShownProvider(id=each.name, title=each.title, kind=each.kind, url=each.url, scopes=each.scopes)
                for each in items
            ],
            next=after,
        )
