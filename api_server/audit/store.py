"""Reads the log, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from sqlalchemy import or_, select

from api_server.audit.tables import audit_log
from api_server.db.database import Database
from common.ids import TeamId

__all__ = ["Actor", "AuditReader", "AuditStore", "Filter", "Recorded", "Target"]


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who did it."""

    kind: str
    id: str
    name: str
    """As it was then."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What it was done to."""

    kind: str
    id: str


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the audit log."""

    id: str
    seq: int
    """Its place in the chain, over all teams."""
    time: float
    """Seconds since the Unix epoch."""
    actor: Actor
    team: str | None
    """None when it concerns no team."""
    action: str
    target: Target
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str
    address: str
    outcome: str
    """`done`, or why not."""
    hash: str
    """Of the entry in the chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries are meant; None means any."""

    teams: Iterable[TeamId]
    without_team: bool
    """Also those that concern no team."""
    action: str | None = None
    actor: str | None = None
    target: str | None = None


class AuditReader(Protocol):
    """Reads the log."""

    async def page(self, wanted: Filter, *, limit: int, before: int | None) -> list[Recorded]:
        """Entries, newest first.

        Args:
            wanted: which ones.
            limit: at most so many.
            before: only those older than the one with this number.

        Raises:
            DatabaseUnavailableError: the database cannot be reached.
        """
        ...


class AuditStore:
    """Implements `AuditReader`.

    Args:
        database: with the log.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: Filter, *, limit: int, before: int | None) -> list[Recorded]:
        """As `AuditReader` says."""
        of_teams = audit_log.c.team_id.in_(sorted(wanted.teams))
        query = (
            select(audit_log)
            .where(or_(of_teams, audit_log.c.team_id.is_(None)) if wanted.without_team else of_teams)
            .order_by(audit_log.c.seq.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(audit_log.c.seq < before)
        for column, value in (("action", wanted.action), ("actor_id", wanted.actor), ("target_id", wanted.target)):
            if value is not None:
                query = query.where(audit_log.c[column] == value)
        rows = (await self._database.read(lambda tx: tx.execute(query))).all()
        return [
            Recorded(
                id=row.id,
                seq=row.seq,
                time=row.time,
                actor=Actor(kind=row.actor_kind, id=row.actor_id, name=row.actor_name),
                team=row.team_id,
                action=row.action,
                target=Target(kind=row.target_kind, id=row.target_id),
                before=row.before,
                after=row.after,
                request_id=row.request_id,
                address=row.address,
                outcome=row.outcome,
                hash=row.hash,
            )
            for row in rows
        ]
