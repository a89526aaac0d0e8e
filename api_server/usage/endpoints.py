"""`/api/usage`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.interfaces import Action
from api_server.changes.interfaces import Change
from api_server.db.database import Database
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller, ListQuery, Route, cut_page
from api_server.usage.records import By, Question, Usage
from api_server.usage.store import UsageStore
from common.clock import Clock
from common.ids import TeamId

__all__ = ["UsageEndpoints", "UsageService"]

_DAY = 24 * 3600.0

_Number = Annotated[int, Meta(ge=-(2**31), lt=2**31)]
_Time = Annotated[float, Meta(ge=0, le=1e11)]


class UsageQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which usage."""

    since: Annotated[
        _Time | UnsetType,
        Meta(description="Seconds since the Unix epoch; the hour that it lies in counts. By default a day ago."),
    ] = msgspec.field(name="from", default=UNSET)
    until: Annotated[
        _Time | UnsetType,
        Meta(description="Seconds since the Unix epoch; the hour that it lies in counts. By default now."),
    ] = msgspec.field(name="to", default=UNSET)
    token: Annotated[
        Annotated[str, Meta(max_length=64)] | None, Meta(description="Only that of a token or person, by id.")
    ] = None
    route: Annotated[
        Annotated[str, Meta(max_length=100)] | None,
        Meta(description="Only that of a route, by id, or `device/service`."),
    ] = None
    status: Annotated[
        Annotated[int, Meta(ge=0, le=599)] | UnsetType, Meta(description="Only that with this status.")
    ] = UNSET
    by: Annotated[
        Annotated[str, Meta(max_length=100)],
        Meta(description="What to show apart, comma-separated: hour, day, token, route, status_class, status."),
    ] = "hour"


class UsagePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of usage, in the order of `by`."""

    items: list[Usage]
    next: str | None


class UsageService:
    """Reads usage.

    Args:
        database: with it.
        clock: wall time.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._store = UsageStore()

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return self._clock.wall()

    async def page(self, asked: Question, *, limit: int, after: Sequence[str | int] | None) -> list[Usage]:
        """Sums in the order of `asked.by`."""
        return await self._database.read(lambda tx: self._store.page(tx, asked, limit=limit, after=after))

    async def end_team(self, tx: AsyncConnection, team: TeamId, now: float) -> Sequence[Change]:  # noqa: ARG002
        """Implements `api_server.teams.interfaces.TeamEnder`."""
        await self._store.forget_team(tx, team)
        return []


class UsageEndpoints:
    """Serves `/api/usage`.

    Args:
        usage: reads it.
    """

    def __init__(self, usage: UsageService) -> None:
        self._usage = usage

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(
                method="GET",
                path="/api/usage",
                handler=self.show_usage,
                action=Action.USAGE_READ,
                errors=(DatabaseUnavailableError,),
            )
        ]

    async def show_usage(self, caller: Caller, query: UsageQuery) -> UsagePage:
        """Show what was used of a team's services, through the gateway.

        Summed up, and shown apart by what `by` names, in that order. It is a few seconds behind.
        """
        now = self._usage.now()
        asked = Question(
            team=caller.team,
            since=now - _DAY if query.since is UNSET else query.since,
            until=now + 1 if query.until is UNSET else query.until,
            token=query.token,
            route=query.route,
            status=None if query.status is UNSET else query.status,
            by=_by(query.by),
        )
        found = await self._usage.page(asked, limit=query.limit + 1, after=_position(query.cursor, asked.by))
        items, cursor = cut_page(found, query.limit, lambda each: _cursor(each, asked.by))
        return UsagePage(items=items, next=cursor)


def _by(text: str) -> tuple[By, ...]:
    try:
        found = tuple(By(name.strip()) for name in text.split(","))
    except ValueError:
        found = ()
    if not found or len(set(found)) < len(found):
        raise ValidationFailedError(f"query: by is one or more of {', '.join(By)}, each once")
    return found


def _values(usage: Usage, by: Sequence[By]) -> list[str | int]:
    """What a line is shown apart by, as the store has it."""
    hours = (By.HOUR, By.DAY)
    return [getattr(usage, each.value) // 3600 if each in hours else getattr(usage, each.value) for each in by]


def _cursor(usage: Usage, by: Sequence[By]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_values(usage, by))).decode().rstrip("=")


def _position(cursor: str | None, by: Sequence[By]) -> list[str | int] | None:
    if cursor is None:
        return None
    try:
        values = msgspec.json.decode(
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)),
            type=list[Annotated[int, Meta(ge=-(2**31), lt=2**31)] | str],
        )
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        values = []
    texts = (By.TOKEN, By.ROUTE)
    if [isinstance(value, str) for value in values] != [each in texts for each in by] or any(
        "\0" in value for value in values if isinstance(value, str)
    ):
        raise ValidationFailedError("query: cursor is none of this list")
    return values
