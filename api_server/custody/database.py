"""The record store in Homeport's own database; the default, and what mirrors follow.

A change is one statement with the expected version in its WHERE: of two that were decided on the same version, one
finds no row. Each change raises the row's `revision`, by which mirrors see what they lack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.errors import RecordConflictError, RecordNotFoundError
from api_server.custody.interfaces import Also, StoreHealth
from api_server.custody.records import Record, check_record_id
from api_server.custody.tables import custody_records
from api_server.db.database import Database, written
from api_server.db.errors import DatabaseError
from common.clock import Clock
from common.ids import TeamId

__all__ = ["DatabaseRecordStore", "bury", "overwrite", "record_of", "row_of"]


class DatabaseRecordStore:
    """A `RecordStore`.

    Args:
        database: where they are kept.
        clock: wall time.
    """

    name = "database"

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []

    def add(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each change of this process; it must not block or raise."""
        self._listeners.append(listener)

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()

    async def get(self, record_id: str) -> Record:
        """A record, as `RecordStore` says."""
        check_record_id(record_id)
        row = await self._database.read(lambda tx: _row(tx, record_id))
        if row is None or row.deleted_at is not None:
            raise RecordNotFoundError(f"there is no record {record_id}")
        return record_of(row)

    async def put(self, record: Record, *, expected: int, also: Also | None = None) -> None:
        """Keep a record, as `RecordStore` says."""
        check_record_id(record.id)
        if record.version <= max(expected, 0):
            raise ValueError("the version of a change is higher than the one that it was decided on")

        async def work(tx: AsyncConnection) -> None:
            await (_change(tx, record, expected) if expected else _add(tx, record))
            if also is not None:
                await also(tx)

        await written(self._database, work)
        self._changed()

    async def delete(self, record_id: str, *, expected: int, also: Also | None = None) -> None:
        """Forget a record, as `RecordStore` says."""
        check_record_id(record_id)

        async def work(tx: AsyncConnection) -> None:
            there = (custody_records.c.id == record_id) & custody_records.c.deleted_at.is_(None)
            result = await tx.execute(
                update(custody_records)
                .where(there, custody_records.c.version == expected)
                .values(**_gone(self._clock.wall()))
            )
            if not result.rowcount:
                row = await _row(tx, record_id)
                if row is None or row.deleted_at is not None:
                    raise RecordNotFoundError(f"there is no record {record_id}")
                raise RecordConflictError(record_id, row.version)
            if also is not None:
                await also(tx)

        await self._database.write(work)
        self._changed()

    async def drop_team(self, tx: AsyncConnection, team: TeamId) -> None:
        """Forget every record of a team, as part of the transaction that ends it."""
        there = (custody_records.c.team_id == team) & custody_records.c.deleted_at.is_(None)
        await tx.execute(update(custody_records).where(there).values(**_gone(self._clock.wall())))

    async def list(
        self, *, limit: int, after: str | None = None, team: TeamId | None = None, user: str | None = None
    ) -> Sequence[Record]:
        """Records in the order of their ids, as `RecordStore` says."""
        query = _present(limit)
        if after is not None:
            query = query.where(custody_records.c.id > after)
        if team is not None:
            query = query.where(custody_records.c.team_id == team)
        if user is not None:
            query = query.where(custody_records.c.user_id == user)

        async def work(tx: AsyncConnection) -> list[Record]:
            return [record_of(row) for row in await tx.execute(query)]

        return await self._database.read(work)

    async def health(self) -> StoreHealth:
        """How the store is, as `RecordStore` says."""
        try:
            await self._database.ping()
        except DatabaseError as exc:
            return StoreHealth(store=self.name, ok=False, detail=exc.detail)
        return StoreHealth(store=self.name, ok=True, detail=self._database.name)

    async def ready(self) -> None:
        """A transaction that commits is where it has to be."""


def record_of(row: Row[Any]) -> Record:
    """A row that is not deleted, as a record."""
    return Record(
        id=row.id,
        kind=row.kind,
        team=TeamId(row.team_id),
        user=row.user_id,
        provider=row.provider,
        version=row.version,
        sealed=row.sealed,
        updated_at=row.updated_at,
    )


def row_of(record: Record) -> dict[str, Any]:
    """A record as a new row."""
    return {"id": record.id, "revision": 1, **_values(record)}


async def overwrite(tx: AsyncConnection, record: Record, revision: int) -> None:
    """Have a record as it is given, whatever is in its place: what is believed more than this database says so."""
    values = {"revision": revision, "deleted_at": None, **_values(record)}
    there = update(custody_records).where(custody_records.c.id == record.id)
    if not (await tx.execute(there.values(**values))).rowcount:
        await tx.execute(insert(custody_records).values(id=record.id, **values))


async def bury(tx: AsyncConnection, ids: Sequence[str], now: float) -> None:
    """Forget records, whatever version they have."""
    await tx.execute(update(custody_records).where(custody_records.c.id.in_(ids)).values(**_gone(now)))


def _gone(now: float) -> dict[str, Any]:
    # One more: an old version that somebody puts back is older than this one, too.
    return {
        "sealed": None,
        "deleted_at": now,
        "version": custody_records.c.version + 1,
        "revision": custody_records.c.revision + 1,
    }


def _present(limit: int) -> Select[Any]:
    return (
        select(custody_records)
        .where(custody_records.c.deleted_at.is_(None))
        .order_by(custody_records.c.id)
        .limit(limit)
    )


async def _row(tx: AsyncConnection, record_id: str) -> Row[Any] | None:
    return (await tx.execute(select(custody_records).where(custody_records.c.id == record_id))).one_or_none()


async def _add(tx: AsyncConnection, record: Record) -> None:
    """Make a row, or bring a deleted one back with a higher version."""
    row = await _row(tx, record.id)
    if row is None:
        # Somebody may make it meanwhile: then this fails, and the whole is done again.
        await tx.execute(insert(custody_records).values(row_of(record)))
        return
    gone = (
        (custody_records.c.id == record.id)
        & custody_records.c.deleted_at.is_not(None)
        & (custody_records.c.version < record.version)
    )
    result = await tx.execute(
        update(custody_records)
        .where(gone)
        .values(revision=custody_records.c.revision + 1, deleted_at=None, **_values(record))
    )
    if not result.rowcount:
        raise RecordConflictError(record.id, row.version)


async def _change(tx: AsyncConnection, record: Record, expected: int) -> None:
    same = (
        (custody_records.c.id == record.id)
        & custody_records.c.deleted_at.is_(None)
        & (custody_records.c.version == expected)
        & (custody_records.c.kind == record.kind)
        & (custody_records.c.team_id == record.team)
        & (custody_records.c.user_id == record.user)
        & (custody_records.c.provider == record.provider)
    )
    result = await tx.execute(
        update(custody_records)
        .where(same)
        .values(
            version=record.version,
            sealed=record.sealed,
            updated_at=record.updated_at,
            revision=custody_records.c.revision + 1,
        )
    )
    if not result.rowcount:
        row = await _row(tx, record.id)
        raise RecordConflictError(record.id, 0 if row is None else row.version)


def _values(record: Record) -> dict[str, Any]:
    return {
        "kind": record.kind,
        "team_id": record.team,
        "user_id": record.user,
        "provider": record.provider,
        "version": record.version,
        "sealed": record.sealed,
        "updated_at": record.updated_at,
    }
