"""`/api/routes/{id}/requests`: what went to a route that is inspected, for who may call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action, Decision
from api_server.db.database import Database
from api_server.db.errors import DatabaseUnavailableError
from api_server.gateway.errors import BodyTooLargeError, HeadTooLargeError, NoRouteError
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery, cut_page
from api_server.inspector.errors import NotReplayableError, RequestNotKeptError
from api_server.inspector.interfaces import Repeater, RouteBook
from api_server.inspector.recorder import RequestRecorder
from api_server.inspector.records import InspectedRequest, InspectedSummary
from api_server.limits.errors import LimitsUnavailableError, QuotaExceededError, TooManyStreamsError
from api_server.routing.errors import RouteNotFoundError
from api_server.routing.records import StoredRoute
from common.ids import TeamId

__all__ = ["InspectorEndpoints"]


class InspectedPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a route."""

    id: Annotated[str, Meta(max_length=100, description="Id or name of the route.")]


class InspectedRequestPath(InspectedPath, frozen=True, kw_only=True):
    """Names a request."""

    request: Annotated[str, Meta(max_length=100, description="Id of the request: `rqs_...`.")]


class InspectedPage(msgspec.Struct, frozen=True, kw_only=True):
    """Requests, newest first."""

    process: str
    """Whose memory they are in: each API process keeps what went through it, and shows no other's."""
    inspect: bool
    """Whether the route is inspected now."""
    items: list[InspectedSummary]
    next: str | None


class InspectedDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A request, with what went by."""

    process: str
    """Whose memory it is in."""
    request: InspectedRequest


@dataclass(frozen=True, slots=True)
class _Called:
    """A route, as rights look at it."""

    team: TeamId
    name: str | None
    tags: frozenset[str]
    device: None = None


class InspectorEndpoints:
    """Serves them.

    Args:
        recorder: of this process.
        routes: which there are.
        repeater: sends requests again.
        database: for the line in the audit log.
        audit: gets one for each request that is sent again.
        process: name of this process.
    """

    def __init__(
        self,
        recorder: RequestRecorder,
        routes: RouteBook,
        repeater: Repeater,
        *,
        database: Database,
        audit: AuditLog,
        process: str,
    ) -> None:
        self._recorder = recorder
        self._routes = routes
        self._repeater = repeater
        self._database = database
        self._audit = audit
        self._process = process

    def routes(self) -> list[Route]:
        """The endpoints."""
        every = "/api/routes/{id}/requests"
        one = every + "/{request}"
        errors = (RouteNotFoundError, DatabaseUnavailableError)
        return [
            Route(method="GET", path=every, handler=self.list_requests, action=Action.GATEWAY_CALL, errors=errors),
            Route(
                method="GET",
                path=one,
                handler=self.show_request,
                action=Action.GATEWAY_CALL,
                errors=(RequestNotKeptError, *errors),
            ),
            Route(
                method="POST",
                path=one + "/replay",
                handler=self.replay_request,
                action=Action.GATEWAY_CALL,
                errors=(
                    BodyTooLargeError,
                    HeadTooLargeError,
                    LimitsUnavailableError,
                    NoRouteError,
                    NotReplayableError,
                    QuotaExceededError,
                    RequestNotKeptError,
                    TooManyStreamsError,
                    *errors,
                ),
            ),
        ]

    async def list_requests(self, caller: Caller, path: InspectedPath, query: ListQuery) -> InspectedPage:
        """List the last requests to a route that is inspected.

        Newest first, of the API process that answers: `process` says which. For who may call the route and read it.
        """
        route = await self._find(caller, path.id)
        kept = self._recorder.those_of(route.id)
        if query.cursor is not None:
            ids = [each.id for each in kept]
            kept = kept[ids.index(query.cursor) + 1 :] if query.cursor in ids else []
        items, cursor = cut_page(kept[: query.limit + 1], query.limit, lambda each: each.id)
        return InspectedPage(process=self._process, inspect=route.inspect, items=items, next=cursor)

    async def show_request(self, caller: Caller, path: InspectedRequestPath, query: TeamQuery) -> InspectedDetail:  # noqa: ARG002
        """Show a request to a route, and its response.

        Heads as they came, and the first bytes of the bodies; what is secret is `***`.
        """
        route = await self._find(caller, path.id)
        return InspectedDetail(process=self._process, request=self._recorder.show(route.id, path.request))

    async def replay_request(self, caller: Caller, path: InspectedRequestPath, query: TeamQuery) -> InspectedDetail:  # noqa: ARG002
        """Send a request again, by the route as it is now.

        The service gets what the client sent, without what the client showed of itself (its token, cookies, fields that
        sound of a secret), and with the credential of the route. The answer is the new request, once it is over.
        """
        route = await self._find(caller, path.id)
        head, body = self._recorder.to_repeat(route.id, path.request)

        async def write(tx: AsyncConnection) -> None:
            entry = entry_of(caller, route.team, "route.replayed", ("route", route.id), after={"request": path.request})
            await self._audit.record(tx, entry)

        await self._database.write(write)
        recording = await self._repeater.replay(
            caller.identity,
            address=caller.address,
            route_id=route.id,
            request=path.request,
            head=head,
            body=body,
        )
        return InspectedDetail(process=self._process, request=self._recorder.show(route.id, recording.id))

    async def _find(self, caller: Caller, name: str) -> StoredRoute:
        """A route of the team that the caller may call and read.

        Raises:
            ForbiddenError: may not.
            RouteNotFoundError: the team has none.
        """
        if not caller.identity.may(Action.ROUTES_READ, caller.team):
            raise ForbiddenError(f"you may not read routes of the team {caller.team}")
        route = await self._routes.show(caller.team, name)
        if caller.identity.decide_call(_Called(route.team, route.name, frozenset(route.tags))) is not Decision.ALLOWED:
            raise ForbiddenError(f"you may not call the route {route.name}")
        if not route.inspect:
            self._recorder.forget(route.id)
        return route
