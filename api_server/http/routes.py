"""Endpoints as data: what each takes and gives, who may call it, and how it can fail.

A handler is an async method whose parameters say what it needs, by name:

    caller: Caller       who calls, already allowed to do `Route.action` in `caller.teams`
    path: T              the variable parts of the path        a frozen msgspec.Struct
    query: T             the query string                      a frozen msgspec.Struct
    body: T              the JSON body                         a frozen msgspec.Struct
    form: T              the form body, in its place           a frozen msgspec.Struct
    request: Request     the request itself, for handlers that stream

and whose return annotation is the body of the answer, None for none, or a `StreamResponse` that it made itself. The
first paragraph of its docstring is the summary in the reference; the rest, up to `Args:`, the description. What is
validated and what is documented are therefore the same types.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from api_server.auth.errors import ForbiddenError, TeamNotFoundError
from api_server.auth.interfaces import INSTALLATION_ACTIONS, Action, Decision, Identity
from api_server.http.errors import ValidationFailedError
from common.errors import HomeportError
from common.ids import TeamId

__all__ = ["Caller", "Handler", "ListQuery", "Route", "TeamQuery", "authorise", "chosen_team", "cut_page"]


Handler = Callable[..., Awaitable[Any]]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes the request, and for which team."""

    identity: Identity
    teams: frozenset[TeamId]
    """The teams that the request is about: one, unless the route says `every_team`; none without an action."""
    address: str
    request_id: str

    @property
    def team(self) -> TeamId:
        """The one team that the request is about."""
        (team,) = self.teams
        return team


class TeamQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of an endpoint that concerns one team."""

    team: Annotated[
        str | None, Meta(description="The team; may be left out by an identity that belongs to exactly one.")
    ] = None


class ListQuery(TeamQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of an endpoint that lists."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="Most items in the answer.")] = 100
    cursor: Annotated[
        Annotated[str, Meta(min_length=1, max_length=512)] | None,
        Meta(description="The `next` of the page before this one."),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One endpoint."""

    method: str
    path: str
    """With variables in braces: `/api/sessions/{id}`."""
    handler: Handler
    action: Action | None = None
    """What the caller must be allowed to do; None when to be someone is enough."""
    every_team: bool = False
    """Without `?team=` it is about every team in which the caller may do the action."""
    status: int = 200
    """Of a success."""
    errors: Sequence[type[HomeportError]] = ()
    """How it fails, beyond how every endpoint does."""
    media_type: str = "application/json"
    """Of the answer."""
    answer: Any = None
    """Type of the answer's body, for a handler that makes the response itself."""
    redirects: bool = False
    """Whether a browser that accepts no JSON is answered with 303."""
    checks_csrf: bool = False
    """Whether the handler itself makes sure that a person's browser means it; otherwise the header is needed."""

    @property
    def parameters(self) -> dict[str, type]:
        """The annotation of each parameter of the handler."""
        hints = {name: hint for name, hint in _hints(self.handler).items() if name != "return"}
        if unknown := hints.keys() - {"caller", "path", "query", "body", "form", "request"}:
            raise TypeError(f"{self.operation}: a handler has no parameter {unknown}")
        return hints

    @property
    def result(self) -> Any:
        """The type of the answer's body: what the handler returns, unless `answer` says more."""
        return self.answer if self.answer is not None else _hints(self.handler)["return"]

    @property
    def operation(self) -> str:
        """A name for the endpoint, unique and stable: `list_sessions`."""
        return self.handler.__name__

    @property
    def summary(self) -> str:
        """The first paragraph of the handler's docstring."""
        return self._paragraphs()[0].rstrip(".")

    @property
    def description(self) -> str:
        """The rest of it."""
        return "\n\n".join(self._paragraphs()[1:])

    def _paragraphs(self) -> list[str]:
        text = inspect.getdoc(self.handler)
        if not text:
            raise TypeError(f"{self.operation} has no docstring")
        return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _hints(handler: Handler) -> dict[str, Any]:
    return _hints_of_function(getattr(handler, "__func__", handler))


@cache
def _hints_of_function(function: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(function)


def authorise(identity: Identity, route: Route, team: str | None) -> frozenset[TeamId]:
    """The teams that a request is about, once it is certain that the identity may do the route's action there.

    Args:
        identity: who asks.
        route: what for.
        team: as the path or the query names it; None when neither does.

    Returns:
        The teams; none when the route has no action, or one that concerns no team.

    Raises:
        ForbiddenError: the identity may not.
        TeamNotFoundError: it has nothing to do with that team.
        ValidationFailedError: the request must name a team.
    """
    action = route.action
    if action is None:
        return frozenset()
    if action in INSTALLATION_ACTIONS:
        chosen = None
    elif team is not None:
        chosen = TeamId(team)
    elif len(identity.teams) == 1:
        chosen = next(iter(identity.teams))
    elif route.every_team:
        allowed = frozenset(each for each in identity.teams if identity.may(action, each))
        if not allowed:
            raise _forbidden(identity, action)
        return allowed
    else:
        raise ValidationFailedError("query: name a team: you belong to none, or to several")
    match identity.decide(action, chosen):
        case Decision.ALLOWED:
            return frozenset() if chosen is None else frozenset({chosen})
        case Decision.UNKNOWN_TEAM:
            raise TeamNotFoundError("there is no such team, or you do not belong to it")
        case Decision.FORBIDDEN:
            raise _forbidden(identity, action)


def cut_page(found: Sequence[T], limit: int, key: Callable[[T], str]) -> tuple[list[T], str | None]:
    """A page, and the cursor of the next one; None at the end.

    Args:
        found: in the order of their keys, one more than the page may have if there are as many.
        limit: of the page.
        key: of an item, after which the next page begins.
    """
    items = list(found[:limit])
    return items, key(items[-1]) if len(found) > limit else None


def chosen_team(caller: Caller, action: Action, named: str | None) -> TeamId:
    """The team that a body names, for a route that says `every_team`.

    Args:
        caller: allowed to do the action in `caller.teams`.
        action: of the route.
        named: by the body; None when it names none.

    Raises:
        ForbiddenError: the caller may not, in that team.
        TeamNotFoundError: it has nothing to do with that team.
        ValidationFailedError: none is named, and there are several.
    """
    if named is None:
        if len(caller.teams) == 1:
            return caller.team
        raise ValidationFailedError("body: name a team: you belong to several")
    match caller.identity.decide(action, TeamId(named)):
        case Decision.ALLOWED:
            return TeamId(named)
        case Decision.UNKNOWN_TEAM:
            raise TeamNotFoundError("there is no such team, or you do not belong to it")
        case Decision.FORBIDDEN:
            raise _forbidden(caller.identity, action)


def _forbidden(identity: Identity, action: Action) -> ForbiddenError:
    return ForbiddenError(f"{identity.kind} {identity.name!r} may not do {action.value}")
