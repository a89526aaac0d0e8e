"""`/api/limits`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api_server.auth.errors import TeamNotFoundError
from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery, cut_page
from api_server.limits.errors import SubjectNotFoundError, TooManySubjectsError
from api_server.limits.limiter import Limiter, key_of
from api_server.limits.records import Defaults, Limits, Stored, SubjectKind
from api_server.limits.service import LimitService
from common.ids import TeamId

__all__ = ["LimitEndpoints"]


class NoQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of an endpoint that takes no query."""


class TeamIdPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a team, for those who look after the installation."""

    id: Annotated[str, Meta(min_length=1, max_length=40, description="Id of the team.")]


class SubjectPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a subject."""

    kind: Annotated[SubjectKind, Meta(description="`token` or `route`.")]
    id: Annotated[str, Meta(min_length=1, max_length=100, description="Id of the token; id or name of the route.")]


class LimitsPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of what is set, in the order of kind and subject."""

    items: list[Stored]
    next: str | None


class SubjectLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one subject."""

    own: Limits
    """What is set for it."""
    effective: Limits
    """What holds: the installation's default where nothing is set."""


class LimitEndpoints:
    """Serves `/api/limits`.

    Args:
        limits: the rules.
        limiter: knows what is in effect.
    """

    def __init__(self, limits: LimitService, limiter: Limiter) -> None:
        self._limits = limits
        self._limiter = limiter

    def routes(self) -> list[Route]:
        """The endpoints."""
        away = DatabaseUnavailableError
        subject, team, defaults = "/api/limits/{kind}/{id}", "/api/limits/teams/{id}", "/api/limits/defaults"
        return [
            Route(
                method="GET", path="/api/limits", handler=self.list_limits, action=Action.LIMITS_READ, errors=(away,)
            ),
            Route(method="GET", path=defaults, handler=self.show_default_limits, errors=(away,)),
            Route(
                method="PUT",
                path=defaults,
                handler=self.set_default_limits,
                action=Action.LIMITS_CHANGE_INSTALLATION,
                errors=(away,),
            ),
            Route(
                method="GET",
                path=team,
                handler=self.show_team_limits,
                action=Action.LIMITS_CHANGE_INSTALLATION,
                errors=(TeamNotFoundError, away),
            ),
            Route(
                method="PUT",
                path=team,
                handler=self.set_team_limits,
                action=Action.LIMITS_CHANGE_INSTALLATION,
                errors=(TeamNotFoundError, away),
            ),
            Route(
                method="GET",
                path=subject,
                handler=self.show_limits,
                action=Action.LIMITS_READ,
                errors=(SubjectNotFoundError, away),
            ),
            Route(
                method="PUT",
                path=subject,
                handler=self.set_limits,
                action=Action.LIMITS_CHANGE,
                errors=(SubjectNotFoundError, TooManySubjectsError, away),
            ),
        ]

    async def list_limits(self, caller: Caller, query: ListQuery) -> LimitsPage:
        """List the limits that are set for a team, its tokens and its routes.

        What is not listed has the installation's defaults.
        """
        found = await self._limits.those_of(caller.team, limit=query.limit + 1, after=_position(query.cursor))
        items, cursor = cut_page(found, query.limit, lambda each: f"{each.kind}/{each.subject}")
        return LimitsPage(items=items, next=cursor)

    async def show_default_limits(self) -> Defaults:
        """Show the installation's default limits.

        They hold for each team, token, route, address and device that has no value of its own for the same thing.
        """
        return await self._limits.defaults()

    async def set_default_limits(self, caller: Caller, query: NoQuery, body: Defaults) -> Defaults:  # noqa: ARG002
        """Set the installation's default limits.

        All of them: what is left out is not limited. In effect everywhere within a second, for the next request.
        """
        return await self._limits.set_defaults(caller, body)

    async def show_team_limits(self, path: TeamIdPath, query: NoQuery) -> SubjectLimits:  # noqa: ARG002
        """Show what a team may use in all: what is set, and what holds."""
        own = await self._limits.of_team(TeamId(path.id))
        return SubjectLimits(own=own, effective=self._limiter.effective(SubjectKind.TEAM, path.id))

    async def set_team_limits(self, caller: Caller, path: TeamIdPath, body: Limits) -> Limits:
        """Set what a team may use in all.

        All of its limits: what is left out is as the installation's default says.
        """
        return await self._limits.set_team(caller, TeamId(path.id), body)

    async def show_limits(self, caller: Caller, path: SubjectPath, query: TeamQuery) -> SubjectLimits:  # noqa: ARG002
        """Show the limits of a token or a route: what is set, and what holds."""
        found, own = await self._limits.own(caller.team, path.kind, path.id)
        return SubjectLimits(own=own, effective=self._limiter.effective(path.kind, key_of(caller.team, found)))

    async def set_limits(
        self,
        caller: Caller,
        path: SubjectPath,
        query: TeamQuery,  # noqa: ARG002
        body: Limits,
    ) -> Limits:
        """Set what a token or a route may use.

        All of its limits: what is left out is as the installation's default says. A request keeps within all limits
        that it touches, so a token never gets more than its team. In effect everywhere within a second.
        """
        return await self._limits.set(caller, path.kind, path.id, body)


def _position(cursor: str | None) -> tuple[str, str] | None:
    if cursor is None:
        return None
    kind, slash, subject = cursor.partition("/")
    if not slash:
        raise ValidationFailedError("query: cursor is none of ours")
    return kind, subject
