"""Limits in the database. Every call is part of the transaction that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.limits.records import Limits, Stored, SubjectKind
from api_server.limits.tables import limits
from common.ids import TeamId

__all__ = ["LimitStore"]

_NO_TEAM = ""


class LimitStore:
    """SQL for limits; it decides nothing."""

    __slots__ = ()

    async def get(self, tx: AsyncConnection, team: TeamId | None, kind: SubjectKind, subject: str) -> Stored | None:
        """The limits that are set for a subject; `team` is None and `subject` empty for a default."""
        row = (await tx.execute(select(limits).where(*_key(team, kind, subject)))).first()
        return None if row is None else _stored(row)

    async def put(self, tx: AsyncConnection, stored: Stored) -> None:
        """Keep them, in the place of those that are there."""
        kind, _, by = stored.changed_by.partition(":")
        values: dict[str, Any] = {
            "limits": msgspec.to_builtins(stored.limits),
            "changed_at": stored.changed_at,
            "changed_by_kind": kind,
            "changed_by": by,
        }
        key = _key(stored.team, stored.kind, stored.subject)
        if (await tx.execute(update(limits).where(*key).values(**values))).rowcount:
            return
        if await self.get(tx, stored.team, stored.kind, stored.subject) is not None:
            return  # MariaDB counts a row that stays as it was as none
        await tx.execute(
            insert(limits).values(
                team_id=stored.team or _NO_TEAM, kind=stored.kind.value, subject=stored.subject, **values
            )
        )

    async def remove(self, tx: AsyncConnection, team: TeamId | None, kind: SubjectKind, subject: str) -> None:
        """Forget them."""
        await tx.execute(delete(limits).where(*_key(team, kind, subject)))

    async def remove_team(self, tx: AsyncConnection, team: TeamId) -> int:
        """Forget all of a team. Returns how many there were."""
        return (await tx.execute(delete(limits).where(limits.c.team_id == team))).rowcount

    async def count(self, tx: AsyncConnection, team: TeamId) -> int:
        """How many subjects of a team have limits."""
        query = select(func.count()).select_from(limits).where(limits.c.team_id == team)
        return (await tx.execute(query)).scalar_one()

    async def those_of(
        self, tx: AsyncConnection, team: TeamId, *, limit: int, after: tuple[str, str] | None
    ) -> list[Stored]:
        """Those of a team in the order of kind and subject, at most `limit`."""
        query = select(limits).where(limits.c.team_id == team).order_by(limits.c.kind, limits.c.subject).limit(limit)
        if after is not None:
            kind, subject = after
            query = query.where((limits.c.kind > kind) | ((limits.c.kind == kind) & (limits.c.subject > subject)))
        return [_stored(row) for row in await tx.execute(query)]

    async def every(self, tx: AsyncConnection) -> Sequence[Stored]:
        """All of them, the defaults as well."""
        return [_stored(row) for row in await tx.execute(select(limits))]


def _key(team: TeamId | None, kind: SubjectKind, subject: str) -> tuple[Any, Any, Any]:
    return limits.c.team_id == (team or _NO_TEAM), limits.c.kind == kind.value, limits.c.subject == subject


def _stored(row: Row[Any]) -> Stored:
    return Stored(
        kind=SubjectKind(row.kind),
        subject=row.subject,
        team=TeamId(row.team_id) if row.team_id else None,
        limits=msgspec.convert(row.limits, Limits),
        changed_at=row.changed_at,
        changed_by=f"{row.changed_by_kind}:{row.changed_by}",
    )
