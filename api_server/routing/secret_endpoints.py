"""`/api/upstream-secrets`: what routes show to services and backends. Values go in, and never come out."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery, chosen_team, cut_page
from api_server.outbound.errors import TargetRefusedError
from api_server.routing.errors import SecretInUseError, SecretNameTakenError, SecretNotFoundError
from api_server.routing.records import StoredSecret
from api_server.routing.secrets import MAX_SECRET, UpstreamSecretService
from common.secret import Secret

__all__ = [
    "NewUpstreamSecret",
    "NewUpstreamSecretValue",
    "UpstreamSecretEndpoints",
    "UpstreamSecretPage",
    "UpstreamSecretPath",
]

_Name = Annotated[str, Meta(max_length=100)]
_Value = Annotated[str, Meta(min_length=1, max_length=MAX_SECRET)]


class UpstreamSecretPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a secret."""

    id: Annotated[str, Meta(description="Id or name of the secret.")]


class NewUpstreamSecret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A secret to be kept."""

    team: _Name | None = None
    """May be left out by who belongs to exactly one."""
    name: _Name
    """Lower-case letters, digits, single hyphens; at most 40; another than any other secret of the team has."""
    destination: Annotated[str, Meta(min_length=1, max_length=2048)]
    """Where alone it is shown: `https://host[:port]`, `device:NAME/SERVICE` or `label:NAME/SERVICE`."""
    value: _Value
    """Visible ASCII; blanks only within."""


class NewUpstreamSecretValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another value of a secret."""

    value: _Value


class UpstreamSecretPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of secrets, in the order of their names."""

    items: list[StoredSecret]
    next: str | None


class UpstreamSecretEndpoints:
    """Serves `/api/upstream-secrets`.

    Args:
        secrets: the rules.
    """

    def __init__(self, secrets: UpstreamSecretService) -> None:
        self._secrets = secrets

    def routes(self) -> list[Route]:
        """The endpoints."""
        away = DatabaseUnavailableError
        changing = (ForbiddenError, SecretNotFoundError, away)
        every, one = "/api/upstream-secrets", "/api/upstream-secrets/{id}"
        read, own = Action.UPSTREAM_SECRETS_READ, Action.UPSTREAM_SECRETS_CHANGE_OWN
        return [
            Route(method="GET", path=every, handler=self.list_upstream_secrets, action=read, errors=(away,)),
            Route(
                method="POST",
                path=every,
                handler=self.create_upstream_secret,
                action=Action.UPSTREAM_SECRETS_CREATE,
                every_team=True,
                status=201,
                errors=(SecretNameTakenError, TargetRefusedError, away),
            ),
            Route(
                method="GET",
                path=one,
                handler=self.show_upstream_secret,
                action=read,
                errors=(SecretNotFoundError, away),
            ),
            Route(method="PATCH", path=one, handler=self.replace_upstream_secret, action=own, errors=changing),
            Route(
                method="DELETE",
                path=one,
                handler=self.delete_upstream_secret,
                action=own,
                status=204,
                errors=(SecretInUseError, *changing),
            ),
        ]

    async def list_upstream_secrets(self, caller: Caller, query: ListQuery) -> UpstreamSecretPage:
        """List the upstream secrets of a team, without their values."""
        found = await self._secrets.those_of(caller.team, limit=query.limit + 1, after=query.cursor)
        items, cursor = cut_page(found, query.limit, lambda each: each.name)
        return UpstreamSecretPage(items=items, next=cursor)

    async def create_upstream_secret(self, caller: Caller, body: NewUpstreamSecret) -> StoredSecret:
        """Keep a secret that routes show to a service or backend.

        It is for one destination: a route that leads elsewhere cannot show it. Its value is sealed, and in no answer.
        """
        team = chosen_team(caller, Action.UPSTREAM_SECRETS_CREATE, body.team)
        return await self._secrets.create(caller, team, body.name, body.destination, Secret(body.value))

    async def show_upstream_secret(self, caller: Caller, path: UpstreamSecretPath, query: TeamQuery) -> StoredSecret:  # noqa: ARG002
        """Show an upstream secret, without its value."""
        return await self._secrets.show(caller.team, path.id)

    async def replace_upstream_secret(
        self,
        caller: Caller,
        path: UpstreamSecretPath,
        query: TeamQuery,  # noqa: ARG002  # declares ?team=
        body: NewUpstreamSecretValue,
    ) -> StoredSecret:
        """Give an upstream secret another value.

        The routes that show it show the new one within a second, on every gateway.
        """
        return await self._secrets.replace(caller, path.id, Secret(body.value))

    async def delete_upstream_secret(self, caller: Caller, path: UpstreamSecretPath, query: TeamQuery) -> None:  # noqa: ARG002
        """Delete an upstream secret that no route shows."""
        await self._secrets.delete(caller, path.id)
