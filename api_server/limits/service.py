"""What limits may be set, and by whom.

The defaults, and the limits of a team, are for those who look after the installation; a team's own ADMINs set those of
its tokens and routes. Since a request must keep within all limits that it touches, a token or route never gets more
than its team has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import TeamNotFoundError
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database, written
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller
from api_server.limits.errors import SubjectNotFoundError, TooManySubjectsError
from api_server.limits.records import Defaults, Limits, Stored, SubjectKind
from api_server.limits.store import LimitStore
from common.clock import Clock
from common.ids import TeamId

__all__ = ["DEFAULT", "LimitService"]

DEFAULT: Final = ""
"""The subject of a default."""

_MOST: Final = 10_000
"""Subjects of a team that may have limits of their own: every process keeps all of them in memory."""

KnownTeam = Callable[[AsyncConnection, TeamId], Awaitable[object | None]]

Finder = Callable[[AsyncConnection, TeamId, str], Awaitable[str | None]]
"""Finds the id of a thing of a team, by what a path says; None when it has none."""


class LimitService:
    """The rules of limits.

    Args:
        database: where they are kept.
        audit: gets a line for each change.
        changes: tells every process.
        clock: wall time.
        known_team: finds a team; None when there is none.
        finders: of what a team may set limits for.
    """

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        changes: ChangeLog,
        clock: Clock,
        known_team: KnownTeam,
        finders: Mapping[SubjectKind, Finder],
    ) -> None:
        self._database = database
        self._audit = audit
        self._changes = changes
        self._clock = clock
        self._known_team = known_team
        self._finders = finders
        self._store = LimitStore()

    async def those_of(self, team: TeamId, *, limit: int, after: tuple[str, str] | None) -> list[Stored]:
        """What is set for a team, its tokens and its routes."""
        return await self._database.read(lambda tx: self._store.those_of(tx, team, limit=limit, after=after))

    async def defaults(self) -> Defaults:
        """The installation's."""
        return defaults_of(await self._database.read(self._read_defaults))

    async def _read_defaults(self, tx: AsyncConnection) -> list[Stored]:
        found = [await self._store.get(tx, None, kind, DEFAULT) for kind in SubjectKind]
        return [each for each in found if each is not None]

    async def own(self, team: TeamId, kind: SubjectKind, subject: str) -> tuple[str, Limits]:
        """The id of a subject, and what is set for it; nothing, if nothing is.

        Raises:
            SubjectNotFoundError: the team has none of that id.
            ValidationFailedError: that kind of subject is not a team's to set.
        """
        check_settable(kind)

        async def work(tx: AsyncConnection) -> tuple[str, Limits]:
            found = await self._found(tx, team, kind, subject)
            stored = await self._store.get(tx, team, kind, found)
            return found, Limits() if stored is None else stored.limits

        return await self._database.read(work)

    async def of_team(self, team: TeamId) -> Limits:
        """What is set for a team in all.

        Raises:
            TeamNotFoundError: there is none.
        """

        async def work(tx: AsyncConnection) -> Limits:
            if await self._known_team(tx, team) is None:
                raise TeamNotFoundError("there is no such team")
            stored = await self._store.get(tx, team, SubjectKind.TEAM, str(team))
            return Limits() if stored is None else stored.limits

        return await self._database.read(work)

    async def every(self) -> Sequence[Stored]:
        """All that is set."""
        return await self._database.read(self._store.every)

    async def set_defaults(self, caller: Caller, defaults: Defaults) -> Defaults:
        """Set the installation's defaults, all of them."""

        async def work(tx: AsyncConnection) -> Change:
            before = defaults_of(await self._read_defaults(tx))
            for kind in SubjectKind:
                await self._put(tx, caller, None, kind, DEFAULT, getattr(defaults, kind.value))
            change = await self._changes.record(tx, _change(None, DEFAULT))
            await self._audit.record(
                tx,
                entry_of(
                    caller,
                    None,
                    "limits.defaults_set",
                    ("limits", "defaults"),
                    before=_shown(before),
                    after=_shown(defaults),
                ),
            )
            return change

        await self._changes.announce([await written(self._database, work)])
        return defaults

    async def set_team(self, caller: Caller, team: TeamId, limits: Limits) -> Limits:
        """Set what a team may use in all.

        Raises:
            TeamNotFoundError: there is none.
        """

        async def work(tx: AsyncConnection) -> Change:
            if await self._known_team(tx, team) is None:
                raise TeamNotFoundError("there is no such team")
            return await self._set(tx, caller, team, SubjectKind.TEAM, str(team), limits)

        await self._changes.announce([await written(self._database, work)])
        return limits

    async def set(self, caller: Caller, kind: SubjectKind, subject: str, limits: Limits) -> Limits:
        """Set what a token or a route of the caller's team may use.

        Raises:
            SubjectNotFoundError: the team has none of that id.
            TooManySubjectsError: too many of the team have limits of their own.
            ValidationFailedError: that kind of subject is not a team's to set.
        """
        check_settable(kind)

        async def work(tx: AsyncConnection) -> Change:
            found = await self._found(tx, caller.team, kind, subject)
            return await self._set(tx, caller, caller.team, kind, found, limits)

        await self._changes.announce([await written(self._database, work)])
        return limits

    async def end_team(self, tx: AsyncConnection, team: TeamId, now: float) -> Sequence[Change]:  # noqa: ARG002
        """Implements `api_server.teams.interfaces.TeamEnder`."""
        if not await self._store.remove_team(tx, team):
            return []
        return [await self._changes.record(tx, _change(None, DEFAULT))]

    async def _found(self, tx: AsyncConnection, team: TeamId, kind: SubjectKind, subject: str) -> str:
        found = await self._finders[kind](tx, team, subject)
        if found is None:
            raise SubjectNotFoundError(f"the team has no {kind} of that id")
        return found

    async def _set(
        self, tx: AsyncConnection, caller: Caller, team: TeamId, kind: SubjectKind, subject: str, limits: Limits
    ) -> Change:
        before = await self._store.get(tx, team, kind, subject)
        if before is None and await self._store.count(tx, team) >= _MOST:
            raise TooManySubjectsError(f"{_MOST} tokens and routes of the team have limits of their own already")
        await self._put(tx, caller, team, kind, subject, limits)
        change = await self._changes.record(tx, _change(team, subject))
        was = Limits() if before is None else before.limits
        # What is set for a team by those who look after the installation is for its own ADMINs to see, too.
        await self._audit.record(
            tx, entry_of(caller, team, "limits.set", (kind.value, subject), before=_shown(was), after=_shown(limits))
        )
        return change

    async def _put(
        self, tx: AsyncConnection, caller: Caller, team: TeamId | None, kind: SubjectKind, subject: str, limits: Limits
    ) -> None:
        if limits == Limits():
            await self._store.remove(tx, team, kind, subject)
            return
        stored = Stored(
            kind=kind,
            subject=subject,
            team=team,
            limits=limits,
            changed_at=self._clock.wall(),
            changed_by=f"{caller.identity.kind}:{caller.identity.id}",
        )
        await self._store.put(tx, stored)


def check_settable(kind: SubjectKind) -> None:
    """Whether a team may set limits of such subjects.

    Raises:
        ValidationFailedError: it may not.
    """
    if kind not in (SubjectKind.TOKEN, SubjectKind.ROUTE):
        raise ValidationFailedError(
            "path: limits are set for a token or a route; a team's are the installation's to set"
        )


def defaults_of(stored: Sequence[Stored]) -> Defaults:
    """The defaults among what is set."""
    return Defaults(**{each.kind.value: each.limits for each in stored if each.team is None})


def _change(team: TeamId | None, subject: str) -> Change:
    return Change(topic=Topic.LIMITS, team=team, subject=subject)


def _shown(limits: Limits | Defaults) -> dict[str, Any]:
    """Without what is null, for the audit log."""
    shown: dict[str, Any] = msgspec.to_builtins(limits)
    return {
        name: {key: each for key, each in value.items() if each is not None} if isinstance(limits, Defaults) else value
        for name, value in shown.items()
        if value is not None and value != msgspec.to_builtins(Limits())
    }
