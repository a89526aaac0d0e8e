"""Usage in the database. Every call is part of the transaction that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, func, or_, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.usage.records import HOUR, By, Key, Question, Usage
from api_server.usage.tables import usage_counts
from common.ids import TeamId

__all__ = ["Sums", "UsageStore"]

Sums = Sequence[int]
"""Requests, bytes in, bytes out."""

_AT_ONCE: Final = 500
"""Rows of a statement."""

_SUMS: Final = ("requests", "bytes_in", "bytes_out")
_DAY: Final = 24

_COLUMNS: Final[Mapping[By, ColumnElement[Any]]] = {
    By.HOUR: usage_counts.c.hour,
    By.DAY: usage_counts.c.hour - usage_counts.c.hour % _DAY,
    By.TOKEN: usage_counts.c.token,
    By.ROUTE: usage_counts.c.route,
    By.STATUS_CLASS: usage_counts.c.status_class,
    By.STATUS: usage_counts.c.status,
}


class UsageStore:
    """SQL for usage; it decides nothing."""

    __slots__ = ()

    async def add(self, tx: AsyncConnection, counted: Mapping[Key, Sums]) -> None:
        """Add counts to those that are there."""
        rows = [
            {
                "team_id": key.team,
                "hour": key.hour,
                "token": key.token,
                "route": key.route,
                "status": key.status,
                "status_class": key.status // 100,
                **dict(zip(_SUMS, sums, strict=True)),
            }
            for key, sums in sorted(counted.items())  # one order for everybody, so that two cannot block each other
        ]
        for start in range(0, len(rows), _AT_ONCE):
            await tx.execute(_upsert(tx.dialect.name, rows[start : start + _AT_ONCE]))

    async def page(
        self, tx: AsyncConnection, asked: Question, *, limit: int, after: Sequence[str | int] | None
    ) -> list[Usage]:
        """Sums in the order of what they are shown apart by, at most `limit`.

        Args:
            tx: the transaction.
            asked: what.
            limit: lines.
            after: only those behind the line with these values.
        """
        counts, keys = usage_counts.c, [_COLUMNS[each] for each in asked.by]
        query = select(
            *(key.label(each.value) for key, each in zip(keys, asked.by, strict=True)),
            *(func.sum(counts[name]).label(name) for name in _SUMS),
        ).where(counts.team_id == asked.team, counts.hour >= int(asked.since // HOUR), counts.hour * HOUR < asked.until)
        for column, value in ((counts.token, asked.token), (counts.route, asked.route), (counts.status, asked.status)):
            if value is not None:
                query = query.where(column == value)
        if after is not None:
            query = query.where(_behind(keys, after))
        rows = await tx.execute(query.group_by(*keys).order_by(*keys).limit(limit))
        return [_usage(dict(row)) for row in rows.mappings()]

    async def forget(self, tx: AsyncConnection, before: float) -> int:
        """Forget what is older. Returns how many rows there were."""
        return (await tx.execute(delete(usage_counts).where(usage_counts.c.hour < int(before // HOUR)))).rowcount

    async def forget_team(self, tx: AsyncConnection, team: TeamId) -> None:
        """Forget all of a team."""
        await tx.execute(delete(usage_counts).where(usage_counts.c.team_id == team))


def _upsert(dialect: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Insert rows, and add to those that are there."""
    if dialect == "mysql":
        statement = mysql.insert(usage_counts).values(rows)
        return statement.on_duplicate_key_update(
            {name: usage_counts.c[name] + statement.inserted[name] for name in _SUMS}
        )
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    added = insert(usage_counts).values(rows)
    return added.on_conflict_do_update(
        index_elements=list(usage_counts.primary_key.columns),
        set_={name: usage_counts.c[name] + added.excluded[name] for name in _SUMS},
    )


def _behind(keys: Sequence[ColumnElement[Any]], values: Sequence[str | int]) -> ColumnElement[bool]:
    """Rows whose keys come after `values`, in their order."""
    alternatives = []
    for position, (key, value) in enumerate(zip(keys, values, strict=True)):
        equal = [each == same for each, same in zip(keys[:position], values[:position], strict=True)]
        alternatives.append(and_(*equal, key > value))
    return or_(*alternatives)


def _usage(row: Mapping[str, Any]) -> Usage:
    values = dict(row)
    for name in (By.HOUR.value, By.DAY.value):
        if name in values:
            values[name] *= HOUR
    return Usage(**values | {name: int(row[name]) for name in _SUMS})  # a sum is a Decimal on MariaDB
