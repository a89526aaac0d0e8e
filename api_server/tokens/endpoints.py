"""`/api/api-tokens`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery, chosen_team, cut_page
from api_server.tokens.errors import (
    ApiTokenEndedError,
    ApiTokenNotFoundError,
    ScopeNotGrantedError,
    UnknownScopeError,
)
from api_server.tokens.records import ApiToken
from api_server.tokens.service import MAX_OVERLAP, TokenService

__all__ = ["ApiTokenEndpoints"]

_Title = Annotated[str, Meta(min_length=1, max_length=100)]
_Text = Annotated[str, Meta(max_length=1000)]
_Scopes = Annotated[list[Annotated[str, Meta(min_length=1, max_length=128)]], Meta(max_length=100)]
_Addresses = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=50)]
_Lifetime = Annotated[float, Meta(ge=60, le=100 * 366 * 86400)]

_DAY = 86400.0


class ApiTokenPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names an API token."""

    id: Annotated[str, Meta(description="Id of the API token: `tok_...`.")]


class NewApiToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API token to be made."""

    team: _Title | None = None
    """May be left out by who belongs to exactly one."""
    name: _Title
    """For people."""
    description: _Text = ""
    scopes: _Scopes = []
    """What it may do: `devices:read`, `gateway:call:prices`, ... Nothing when left out, and never more than you may."""
    expires_in: _Lifetime | None = None
    """Seconds; when left out, it does not expire, or as late as the installation allows."""
    addresses: _Addresses = []
    """Networks that it may be used from, as `10.0.0.0/8` or `192.0.2.7`; any when left out."""


class ApiTokenChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of an API token; what is left out stays."""

    name: _Title | UnsetType = UNSET
    description: _Text | UnsetType = UNSET


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to rotate an API token."""

    overlap: Annotated[float, Meta(ge=0, le=MAX_OVERLAP)] = _DAY
    """Seconds for which the token that it has now holds as well: 0 to 30 days; a day when left out."""
    expires_in: _Lifetime | None = None
    """Seconds; when left out, as long again as it was given at last."""


class MadeApiToken(ApiToken, frozen=True, kw_only=True):
    """An API token with what is shown only now."""

    token: str
    """`hp_...`; it is not kept, and cannot be shown again."""


class ApiTokenPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of API tokens."""

    items: list[ApiToken]
    next: str | None


class ApiTokenEndpoints:
    """Serves `/api/api-tokens`.

    Args:
        tokens: the rules.
    """

    def __init__(self, tokens: TokenService) -> None:
        self._tokens = tokens

    def routes(self) -> list[Route]:
        """The endpoints."""
        away = DatabaseUnavailableError
        one = "/api/api-tokens/{id}"
        missing = (ApiTokenNotFoundError, away)
        return [
            Route(
                method="GET",
                path="/api/api-tokens",
                handler=self.list_api_tokens,
                action=Action.API_TOKENS_READ,
                errors=(away,),
            ),
            Route(
                method="POST",
                path="/api/api-tokens",
                handler=self.create_api_token,
                action=Action.API_TOKENS_CREATE,
                every_team=True,
                status=201,
                errors=(ApiTokenEndedError, ScopeNotGrantedError, UnknownScopeError, away),
            ),
            Route(method="GET", path=one, handler=self.show_api_token, action=Action.API_TOKENS_READ, errors=missing),
            Route(
                method="PATCH",
                path=one,
                handler=self.edit_api_token,
                action=Action.API_TOKENS_CHANGE_OWN,
                errors=(ForbiddenError, *missing),
            ),
            Route(
                method="POST",
                path=f"{one}/rotate",
                handler=self.rotate_api_token,
                action=Action.API_TOKENS_CHANGE_OWN,
                errors=(ForbiddenError, ScopeNotGrantedError, ApiTokenEndedError, *missing),
            ),
            Route(
                method="DELETE",
                path=one,
                handler=self.revoke_api_token,
                action=Action.API_TOKENS_CHANGE_OWN,
                status=204,
                errors=(ForbiddenError, *missing),
            ),
        ]

    async def list_api_tokens(self, caller: Caller, query: ListQuery) -> ApiTokenPage:
        """List the API tokens of a team, those that have ended included.

        `expires_soon` tells of one that will expire within 30, 7 or 1 days.
        """
        found = await self._tokens.those_of(caller.team, limit=query.limit + 1, after=query.cursor)
        items, cursor = cut_page(found, query.limit, lambda each: each.id)
        return ApiTokenPage(items=items, next=cursor)

    async def create_api_token(self, caller: Caller, body: NewApiToken) -> MadeApiToken:
        """Make an API token, for a program.

        It is shown this once. It may do what its scopes say, as long as whoever makes it may do that, too. One that a
        token makes expires no later than that one, and is revoked with it.
        """
        team = chosen_team(caller, Action.API_TOKENS_CREATE, body.team)
        made, token = await self._tokens.create(
            caller,
            team,
            name=body.name,
            description=body.description,
            scopes=body.scopes,
            addresses=body.addresses,
            expires_in=body.expires_in,
        )
        return MadeApiToken(**msgspec.structs.asdict(made), token=token.reveal())

    async def show_api_token(
        self,
        caller: Caller,
        path: ApiTokenPath,
        query: TeamQuery,  # noqa: ARG002
    ) -> ApiToken:
        """Show an API token, without the token itself."""
        return await self._tokens.show(caller.team, path.id)

    async def edit_api_token(
        self,
        caller: Caller,
        path: ApiTokenPath,
        query: TeamQuery,  # noqa: ARG002
        body: ApiTokenChange,
    ) -> ApiToken:
        """Change an API token's name or description.

        What it may do cannot be changed: make another one.
        """
        given = {"name": body.name, "description": body.description}
        changes = {key: value for key, value in given.items() if isinstance(value, str)}
        return await self._tokens.edit(caller, path.id, changes)

    async def rotate_api_token(
        self,
        caller: Caller,
        path: ApiTokenPath,
        query: TeamQuery,  # noqa: ARG002
        body: Rotation,
    ) -> MadeApiToken:
        """Replace an API token by a new one of the same id, name and scopes.

        The new one is shown this once. The one before holds for `overlap` seconds more, so that programs can be given
        the new one without haste; the one before that does not hold any more. You must have every scope that it has,
        since you get to see it. A token with `api_tokens:change_own` may rotate itself.
        """
        made, token = await self._tokens.rotate(caller, path.id, overlap=body.overlap, expires_in=body.expires_in)
        return MadeApiToken(**msgspec.structs.asdict(made), token=token.reveal())

    async def revoke_api_token(
        self,
        caller: Caller,
        path: ApiTokenPath,
        query: TeamQuery,  # noqa: ARG002
    ) -> None:
        """Revoke an API token, and those that it has made.

        Within a second it is refused everywhere, and what it has open through the gateway is cut.
        """
        await self._tokens.revoke(caller, path.id)
