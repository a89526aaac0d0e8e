"""`/api/providers`, `/api/provider-tokens` and `/api/offline-token`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from api_server.auth.interfaces import Action
from api_server.custody.errors import PrimaryBehindError, StoreUnavailableError
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.errors import CrossSiteRequestError
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery, cut_page
from api_server.provider_tokens.connect.cookies import PATH
from api_server.provider_tokens.connect.service import Callback, ConnectService, Redirect
from api_server.provider_tokens.errors import (
    ConnectCallbackReplayedError,
    ConnectCodeRefusedError,
    ConnectionChangedError,
    ConnectionNotFoundError,
    ConsentRefusedError,
    InvalidConnectCallbackError,
    NeedsReconnectError,
    NobodyBehindTokenError,
    OfflineTokenNotFoundError,
    ProviderAwayError,
    ProviderNotFoundError,
    ProviderRefusesClientError,
    TooManyHandOutsError,
)
from api_server.provider_tokens.grants.records import Grant
from api_server.provider_tokens.grants.tokens import Revoked
from api_server.provider_tokens.providers.catalogue import Providers
from api_server.provider_tokens.service import ConnectionState, GrantService, ShownGrant
from api_server.provider_tokens.settings import ProviderKind

__all__ = ["ProviderEndpoints"]


class ProviderPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a provider."""

    provider: Annotated[str, Meta(max_length=64, description="The provider, as `/api/providers` lists it.")]


class ConnectQuery(TeamQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of a connection that begins."""

    return_to: Annotated[
        str, Meta(max_length=512, description="Path of this site to show afterwards: `/connections`.")
    ] = "/"


class ConnectCallbackQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The provider's answer. What else it says is left alone (RFC 6749 section 4.1.2)."""

    state: Annotated[Annotated[str, Meta(max_length=512)] | None, Meta(description="Names the connection.")] = None
    code: Annotated[Annotated[str, Meta(max_length=4096)] | None, Meta(description="The authorization code.")] = None
    error: Annotated[Annotated[str, Meta(max_length=512)] | None, Meta(description="Why there is none.")] = None
    iss: Annotated[
        Annotated[str, Meta(max_length=2048)] | None, Meta(description="Which provider answers (RFC 9207).")
    ] = None


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


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that somebody has connected in a team. It never holds a token."""

    provider: str
    team: str | None
    """Null for an offline token."""
    state: ConnectionState
    """`unknown`: a refresh has no answer that is known, and the next one tells. `needs_reconnect`: the person has to
    connect anew."""
    problem: str | None
    """Code of what keeps it from being refreshed, or why it has to be connected anew."""
    account: str | None
    """Who the person is at the provider, where it says so."""
    scopes: tuple[str, ...]
    refreshable: bool
    """Whether there is a refresh token."""
    connected_at: float
    refreshed_at: float
    """When the access token was asked for."""
    access_token_expires_at: float | None
    """Null for never."""
    refresh_token_expires_at: float | None
    """Null for never, or when the provider does not say."""


class ConnectionPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of connections."""

    items: list[Connection]
    next: str | None = None


class HandedOut(msgspec.Struct, frozen=True, kw_only=True):
    """An access token of a provider."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  a type
    expires_at: float | None
    """Null for never. It lasts for half a minute at least, or for a fifth of a life shorter than that."""
    scopes: tuple[str, ...]


class Disconnected(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection ended. Here it is forgotten in any case."""

    revoked: bool
    """Whether the provider says that what it had granted is taken back."""
    problem: str | None
    """Code of why not; `no_revocation`: it has no way for it, and the person does it there."""


class ProviderEndpoints:
    """Serves them.

    Args:
        providers: that are set up.
        connect: begins and finishes connections.
        grants: those that are made.
    """

    def __init__(self, providers: Providers, connect: ConnectService, grants: GrantService) -> None:
        self._providers = providers
        self._connect = connect
        self._grants = grants

    def routes(self) -> list[Route]:
        """The endpoints."""
        html = "text/html"
        stored = (DatabaseUnavailableError, PrimaryBehindError, StoreUnavailableError)
        person = (NobodyBehindTokenError, *stored)
        own = (ConnectionNotFoundError, ProviderNotFoundError, *person)
        offline = (OfflineTokenNotFoundError, *person)
        handed = (NeedsReconnectError, ProviderAwayError, ProviderRefusesClientError, TooManyHandOutsError)
        read, connect, use = (
            Action.PROVIDER_TOKENS_READ,
            Action.PROVIDER_TOKENS_CONNECT,
            Action.PROVIDER_TOKENS_USE,
        )
        one = f"{PATH}/{{provider}}"
        token = "/api/offline-token"  # noqa: S105  a path
        return [
            Route(method="GET", path="/api/providers", handler=self.list_providers, action=read, every_team=True),
            Route(method="GET", path=PATH, handler=self.list_connections, action=read, errors=person),
            Route(method="GET", path=one, handler=self.show_connection, action=read, errors=own),
            Route(
                method="DELETE",
                path=one,
                handler=self.disconnect_provider,
                action=connect,
                errors=(ConnectionChangedError, *own),
            ),
            Route(
                method="POST",
                path=f"{one}/access-token",
                handler=self.hand_out_access_token,
                action=use,
                errors=(ConnectionChangedError, *handed, *own),
            ),
            Route(
                method="GET",
                path=f"{one}/connect",
                handler=self.begin_connection,
                action=connect,
                status=303,
                media_type=html,
                errors=(
                    CrossSiteRequestError,
                    NobodyBehindTokenError,
                    ProviderAwayError,
                    ProviderNotFoundError,
                ),
            ),
            Route(
                method="GET",
                path=f"{one}/callback",
                handler=self.finish_connection,
                status=303,
                media_type=html,
                errors=(
                    ConnectCallbackReplayedError,
                    ConnectCodeRefusedError,
                    ConnectionChangedError,
                    ConsentRefusedError,
                    InvalidConnectCallbackError,
                    ProviderAwayError,
                    ProviderNotFoundError,
                    ProviderRefusesClientError,
                    *person,
                ),
            ),
            Route(method="GET", path=token, handler=self.show_offline_token, action=read, errors=offline),
            Route(
                method="DELETE",
                path=token,
                handler=self.revoke_offline_token,
                action=connect,
                errors=(ConnectionChangedError, *offline),
            ),
            Route(
                method="POST",
                path=f"{token}/access-token",
                handler=self.hand_out_by_offline_token,
                action=use,
                errors=(ConnectionChangedError, *handed, *offline),
            ),
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

    async def list_connections(self, query: ListQuery, caller: Caller) -> ConnectionPage:
        """List the providers that you have connected in a team.

        A program sees those of the person who made its token.
        """
        found, after = await self._grants.own(caller, limit=query.limit, after=query.cursor)
        return ConnectionPage(items=[_shown(each) for each in found], next=after)

    async def show_connection(self, path: ProviderPath, query: TeamQuery, caller: Caller) -> Connection:
        """Show what you have connected at a provider."""
        del query
        return _shown(await self._grants.show(caller, path.provider))

    async def disconnect_provider(self, path: ProviderPath, query: TeamQuery, caller: Caller) -> Disconnected:
        """Disconnect a provider.

        What it had granted is taken back there, if it has a way and answers; here it is forgotten in any case.
        """
        del query
        return _disconnected(await self._grants.disconnect(caller, path.provider))

    async def hand_out_access_token(self, path: ProviderPath, query: TeamQuery, caller: Caller) -> HandedOut:
        """Get an access token of a provider that you have connected.

        It lasts for a call at least: one that is about to end is refreshed first, once whoever asks at the same time.
        That changes something, so the method is POST. Keep the token until it expires: each one that is handed out has
        a line in the audit log, and a caller gets only so many. A program has those of the person who made its token.
        """
        del query
        return _handed_out(await self._grants.hand_out(caller, path.provider))

    async def begin_connection(
        self, path: ProviderPath, query: ConnectQuery, caller: Caller, request: web.Request
    ) -> web.Response:
        """Connect a provider: go there.

        For browsers, by a link of this site. The answer sends them to the provider, which sends them back to
        `/callback`. `return_to` must be a path of this site.
        """
        redirect = await self._connect.begin(
            caller,
            path.provider,
            return_to=query.return_to,
            cookies=_cookies(request),
            fetch_site=request.headers.get("Sec-Fetch-Site"),
        )
        return _see_other(redirect)

    async def finish_connection(
        self, path: ProviderPath, query: ConnectCallbackQuery, caller: Caller, request: web.Request
    ) -> web.Response:
        """Connect a provider: come back from it.

        For browsers, which come here with the provider's answer and go on to `return_to`. An answer counts once, in the
        browser and for the person who asked for it.
        """
        callback = Callback(state=query.state, code=query.code, error=query.error, iss=query.iss)
        return _see_other(await self._connect.finish(caller, path.provider, callback, cookies=_cookies(request)))

    async def show_offline_token(self, query: TeamQuery, caller: Caller) -> Connection:
        """Show what is kept of your sign-in for the time that you are away.

        Only where the setting `oidc_offline_access` asks the provider of sign-in for it.
        """
        del query
        return _shown(await self._grants.show_offline(caller))

    async def revoke_offline_token(self, query: TeamQuery, caller: Caller) -> Disconnected:
        """Revoke your offline token."""
        del query
        return _disconnected(await self._grants.disconnect_offline(caller))

    async def hand_out_by_offline_token(self, query: TeamQuery, caller: Caller) -> HandedOut:
        """Get an access token of the provider of sign-in, by your offline token.

        As with the access tokens of other providers.
        """
        del query
        return _handed_out(await self._grants.hand_out_offline(caller))


def _shown(found: ShownGrant) -> Connection:
    grant = found.grant
    problem = found.problem.code if found.problem is not None else None
    return Connection(
        provider=found.key.provider,
        team=found.key.team or None,
        state=found.state,
        problem=grant.dead if grant.dead is not None else problem,
        account=grant.account,
        scopes=grant.scopes,
        refreshable=grant.refresh_token is not None,
        connected_at=grant.connected_at,
        refreshed_at=grant.issued_at,
        access_token_expires_at=grant.access_token_expires_at or None,
        refresh_token_expires_at=grant.refresh_token_expires_at or None,
    )


def _handed_out(grant: Grant) -> HandedOut:
    assert grant.access_token is not None
    return HandedOut(
        access_token=grant.access_token.reveal(),
        expires_at=grant.access_token_expires_at or None,
        scopes=grant.scopes,
    )


def _disconnected(revoked: Revoked) -> Disconnected:
    return Disconnected(revoked=revoked.at_provider, problem=revoked.problem)


def _cookies(request: web.Request) -> str:
    return "; ".join(request.headers.getall("Cookie", ()))


def _see_other(redirect: Redirect) -> web.Response:
    response = web.Response(status=303, headers={"Location": redirect.url})
    for line in redirect.cookies:
        response.headers.add("Set-Cookie", line)
    return response
