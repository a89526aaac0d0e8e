"""`/api/routes`: services and backends under stable paths of the gateway.

Where a path of the API names a route, its id will do, and its name.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.gateway.cors import CorsPolicy
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery, chosen_team, cut_page
from api_server.outbound.errors import TargetRefusedError
from api_server.routing.errors import (
    RouteChangedError,
    RouteNameTakenError,
    RouteNotFoundError,
    RoutePathTakenError,
    SecretElsewhereError,
    SecretNotFoundError,
)
from api_server.routing.records import AuthKind, HealthCheck, RouteTarget, StoredRoute, UpstreamAuth
from api_server.routing.service import NewRouteValues, RouteService

__all__ = ["NewRoute", "RouteChange", "RouteDeletion", "RouteEndpoints", "RoutePage", "RoutePath"]

_Name = Annotated[str, Meta(max_length=100)]
_Path = Annotated[str, Meta(min_length=1, max_length=512)]
_Tags = Annotated[list[_Name], Meta(max_length=100)]


class RoutePath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a route."""

    id: Annotated[str, Meta(description="Id or name of the route.")]


class RouteDeletion(TeamQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of a deletion."""

    version: Annotated[int | None, Meta(description="Delete it only if it has this version.")] = None


class NewRoute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route to be published."""

    team: _Name | None = None
    """May be left out by who belongs to exactly one."""
    name: _Name
    """Lower-case letters, digits, single hyphens; at most 40; another than any other route of the team has."""
    path: _Path
    """The prefix, in whole segments; no other route's, of any team."""
    target: RouteTarget
    tags: _Tags = []
    """By which scopes of tokens can say several routes: `gateway:call:tag:NAME`."""
    auth: UpstreamAuth = UpstreamAuth(kind=AuthKind.NONE)
    strip_prefix: bool = True
    """Whether the service sees the path without the prefix."""
    health: HealthCheck | None = None
    """For the devices of a label."""
    cors: CorsPolicy | None = None
    """Which pages of other origins may read it; null: what the service says about that stands."""
    inspect: bool = False
    """Whether the last requests to it are kept for a while, to be looked at: `/api/routes/{id}/requests`."""


class RouteChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a route, all at once; what is left out stays."""

    version: int | UnsetType = UNSET
    """Change it only if it has this version."""
    name: _Name | UnsetType = UNSET
    path: _Path | UnsetType = UNSET
    target: RouteTarget | UnsetType = UNSET
    tags: _Tags | UnsetType = UNSET
    auth: UpstreamAuth | UnsetType = UNSET
    strip_prefix: bool | UnsetType = UNSET
    health: HealthCheck | UnsetType | None = UNSET
    cors: CorsPolicy | UnsetType | None = UNSET
    inspect: bool | UnsetType = UNSET

    def wanted(self) -> dict[str, Any]:
        """The fields that are there, without the version."""
        there = {name: getattr(self, name) for name in self.__struct_fields__ if name != "version"}
        return {name: value for name, value in there.items() if value is not UNSET}


class RoutePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of routes, in the order of their names."""

    items: list[StoredRoute]
    next: str | None


class RouteEndpoints:
    """Serves `/api/routes`.

    Args:
        routes: the rules.
    """

    def __init__(self, routes: RouteService) -> None:
        self._routes = routes

    def routes(self) -> list[Route]:
        """The endpoints."""
        away = DatabaseUnavailableError
        saving = (
            RouteNameTakenError,
            RoutePathTakenError,
            SecretNotFoundError,
            SecretElsewhereError,
            TargetRefusedError,
            away,
        )
        every, one = "/api/routes", "/api/routes/{id}"
        return [
            Route(method="GET", path=every, handler=self.list_routes, action=Action.ROUTES_READ, errors=(away,)),
            Route(
                method="POST",
                path=every,
                handler=self.create_route,
                action=Action.ROUTES_CREATE,
                every_team=True,
                status=201,
                errors=saving,
            ),
            Route(
                method="GET",
                path=one,
                handler=self.show_route,
                action=Action.ROUTES_READ,
                errors=(RouteNotFoundError, away),
            ),
            Route(
                method="PATCH",
                path=one,
                handler=self.change_route,
                action=Action.ROUTES_CHANGE,
                errors=(RouteNotFoundError, RouteChangedError, *saving),
            ),
            Route(
                method="DELETE",
                path=one,
                handler=self.delete_route,
                action=Action.ROUTES_DELETE,
                status=204,
                errors=(RouteNotFoundError, RouteChangedError, away),
            ),
        ]

    async def list_routes(self, caller: Caller, query: ListQuery) -> RoutePage:
        """List the routes of a team."""
        found = await self._routes.those_of(caller.team, limit=query.limit + 1, after=query.cursor)
        items, cursor = cut_page(found, query.limit, lambda each: each.name)
        return RoutePage(items=items, next=cursor)

    async def create_route(self, caller: Caller, body: NewRoute) -> StoredRoute:
        """Publish a device's service, one of several devices, or a backend under a path of the gateway.

        It is in effect on every gateway within a second. A request goes to the route with the longest prefix that its
        path has, in whole segments; that of another team answers like no route at all.
        """
        team = chosen_team(caller, Action.ROUTES_CREATE, body.team)
        values = NewRouteValues(
            name=body.name,
            path=body.path,
            target=body.target,
            tags=body.tags,
            auth=body.auth,
            strip_prefix=body.strip_prefix,
            health=body.health,
            cors=body.cors,
            inspect=body.inspect,
        )
        return await self._routes.create(caller, team, values)

    async def show_route(self, caller: Caller, path: RoutePath, query: TeamQuery) -> StoredRoute:  # noqa: ARG002
        """Show a route."""
        return await self._routes.show(caller.team, path.id)

    async def change_route(
        self,
        caller: Caller,
        path: RoutePath,
        query: TeamQuery,  # noqa: ARG002  # declares ?team=
        body: RouteChange,
    ) -> StoredRoute:
        """Change a route, all that is given at once.

        With `version` it is changed only if nobody has done so since that version was read.
        """
        version = None if body.version is UNSET else body.version
        return await self._routes.change(caller, path.id, body.wanted(), version=version)

    async def delete_route(self, caller: Caller, path: RoutePath, query: RouteDeletion) -> None:
        """Delete a route. Every gateway answers its path with 404 within a second."""
        await self._routes.delete(caller, path.id, version=query.version)
