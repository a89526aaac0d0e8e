"""What this database knows of a mirror: where it is, what it has acknowledged, and so what it still lacks.

The outbox is no queue beside the records but a question about them: a record whose `revision` the mirror has not
acknowledged is still to be sent, a deleted one of which the mirror has a copy is still to be taken away. So a change
and its place in the outbox cannot come apart, and a mirror that is set up later lacks everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.database import record_of
from api_server.custody.mirror.statements import Entry
from api_server.custody.records import Record
from api_server.custody.tables import custody_copies, custody_mirrors, custody_records

__all__ = ["ACTIVE", "RESTORING", "UNPINNED", "Copy", "Drift", "MirrorLedger", "Pending", "Pinned"]

ACTIVE = "active"
RESTORING = "restoring"
UNPINNED = "unpinned"
"""States. While records are restored nothing is sent; of a mirror that was never pinned only the problem is kept."""


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """A mirror as it is known."""

    destination: str
    pinned_at: float
    manifest_number: int
    """Of the newest manifest that is there; 0 before the first."""
    manifest_digest: str
    next_number: int | None
    next_digest: str | None
    """Of one that was being written when this was last looked at."""
    attempted_at: float | None
    acknowledged_at: float | None
    problem: str | None
    problem_detail: str | None
    allowed_deletions: int | None
    state: str


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What a mirror lacks."""

    records: int
    """In the database."""
    copies: int
    """That the mirror has acknowledged."""
    changes: int
    """Still to be sent."""
    deletions: int
    """Still to be taken away."""
    oldest: float | None
    """When the oldest of them was made; seconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A record that the mirror lacks, or a copy that it has too many."""

    record_id: str
    record: Record | None
    """None when it was deleted."""
    version: int
    revision: int
    tag: str | None
    """By which the mirror knows the copy that it has; None when it has none."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What the mirror has acknowledged of a record; without a digest, that there is none."""

    record_id: str
    version: int
    revision: int
    digest: str | None
    tag: str


class MirrorLedger:
    """SQL for one mirror; it decides nothing.

    Args:
        name: of the mirror.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    async def pinned(self, tx: AsyncConnection) -> Pinned | None:
        """The mirror; None before it was pinned."""
        found = await self.known(tx)
        return None if found is None or found.state == UNPINNED else found

    async def known(self, tx: AsyncConnection) -> Pinned | None:
        """What there is to say of it, pinned or not."""
        row = (await tx.execute(select(custody_mirrors).where(self._mirror))).one_or_none()
        return None if row is None else Pinned(**{key: row._mapping[key] for key in Pinned.__struct_fields__})

    async def pin(
        self, tx: AsyncConnection, destination: str, now: float, *, number: int, digest: str, state: str = ACTIVE
    ) -> None:
        """Make the mirror known, with the manifest that is there."""
        await tx.execute(delete(custody_mirrors).where(self._mirror))
        await tx.execute(
            insert(custody_mirrors).values(
                name=self._name,
                destination=destination,
                pinned_at=now,
                manifest_number=number,
                manifest_digest=digest,
                state=state,
            )
        )

    async def change(self, tx: AsyncConnection, **values: object) -> None:
        """Change what is known of it."""
        await tx.execute(update(custody_mirrors).where(self._mirror).values(**values))

    async def note_problem(self, tx: AsyncConnection, problem: str, detail: str, now: float) -> None:
        """Keep what is wrong with it, for whoever asks."""
        if await self.known(tx) is None:
            await self.pin(tx, "", now, number=0, digest="", state=UNPINNED)
        await self.change(tx, attempted_at=now, problem=problem, problem_detail=detail[:500])

    async def forget(self, tx: AsyncConnection) -> None:
        """Know nothing of it any more."""
        await tx.execute(delete(custody_copies).where(self._copies))
        await tx.execute(delete(custody_mirrors).where(self._mirror))

    async def pending(self, tx: AsyncConnection, limit: int) -> list[Pending]:
        """What the mirror lacks, in the order of ids, at most `limit`."""
        query = (
            select(custody_records, custody_copies.c.tag)
            .select_from(self._joined)
            .where(or_(_is_to_send, _is_to_delete))
            .order_by(custody_records.c.id)
            .limit(limit)
        )
        return [_pending(row) for row in await tx.execute(query)]

    async def drift(self, tx: AsyncConnection) -> Drift:
        """How far apart they are."""
        deleted = custody_records.c.deleted_at.is_not(None)
        query = select(_count(~deleted), _count(_is_to_send), _count(_is_to_delete)).select_from(self._joined)
        records, changes, deletions = (int(each) for each in (await tx.execute(query)).one())
        copies = (await tx.execute(select(func.count()).where(self._copies))).scalar_one()
        moment = func.coalesce(custody_records.c.deleted_at, custody_records.c.updated_at)
        oldest = (
            await tx.execute(select(func.min(moment)).select_from(self._joined).where(or_(_is_to_send, _is_to_delete)))
        ).scalar()
        return Drift(records=records, copies=copies, changes=changes, deletions=deletions, oldest=oldest)

    async def entries(self, tx: AsyncConnection) -> dict[str, Entry]:
        """What the mirror has, as its manifest says it."""
        rows = await tx.execute(
            select(custody_copies.c.record_id, custody_copies.c.version, custody_copies.c.digest)
            .where(self._copies)
            .order_by(custody_copies.c.record_id)
        )
        return {record_id: Entry(version, digest) for record_id, version, digest in rows}

    async def acknowledge(self, tx: AsyncConnection, copies: Sequence[Copy], now: float) -> None:
        """Keep what the mirror has acknowledged."""
        for ids in _chunks([copy.record_id for copy in copies]):
            await tx.execute(delete(custody_copies).where(self._copies, custody_copies.c.record_id.in_(ids)))
        rows = [
            {
                "mirror": self._name,
                "record_id": copy.record_id,
                "version": copy.version,
                "revision": copy.revision,
                "digest": copy.digest,
                "tag": copy.tag,
                "acknowledged_at": now,
            }
            for copy in copies
            if copy.digest is not None
        ]
        if rows:
            await tx.execute(insert(custody_copies), rows)

    async def acknowledged(self, tx: AsyncConnection, ids: Sequence[str]) -> dict[str, int]:
        """Which revision of records the mirror has acknowledged, be it that they are gone; 0 for none."""
        pending = or_(_is_to_send, _is_to_delete)
        revision = case((pending, func.coalesce(custody_copies.c.revision, 0)), else_=custody_records.c.revision)
        found: dict[str, int] = {}
        for chunk in _chunks(ids):
            query = select(custody_records.c.id, revision).select_from(self._joined)
            for record_id, number in await tx.execute(query.where(custody_records.c.id.in_(chunk))):
                found[record_id] = int(number)
        return found

    async def revision(self, tx: AsyncConnection, record_id: str) -> int:
        """Of a record, as the transaction leaves it."""
        query = select(custody_records.c.revision).where(custody_records.c.id == record_id)
        return int((await tx.execute(query)).scalar_one())

    async def allow_deletion(self, tx: AsyncConnection) -> None:
        """Let one more deletion through: somebody waits for it."""
        allowed = func.coalesce(custody_mirrors.c.allowed_deletions, 0) + 1
        await tx.execute(update(custody_mirrors).where(self._mirror).values(allowed_deletions=allowed))

    async def local(self, tx: AsyncConnection, ids: Sequence[str]) -> Mapping[str, tuple[Record | None, int, int]]:
        """Records as they are here, with version and revision; a deleted one is None."""
        found: dict[str, tuple[Record | None, int, int]] = {}
        for chunk in _chunks(ids):
            for row in await tx.execute(select(custody_records).where(custody_records.c.id.in_(chunk))):
                record = None if row.deleted_at is not None else record_of(row)
                found[row.id] = (record, row.version, row.revision)
        return found

    @property
    def _mirror(self) -> ColumnElement[bool]:
        return custody_mirrors.c.name == self._name

    @property
    def _copies(self) -> ColumnElement[bool]:
        return custody_copies.c.mirror == self._name

    @property
    def _joined(self) -> Any:
        return custody_records.outerjoin(
            custody_copies, and_(self._copies, custody_copies.c.record_id == custody_records.c.id)
        )


_is_to_send = and_(
    custody_records.c.deleted_at.is_(None),
    or_(custody_copies.c.revision.is_(None), custody_copies.c.revision != custody_records.c.revision),
)
_is_to_delete = and_(custody_records.c.deleted_at.is_not(None), custody_copies.c.revision.is_not(None))


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows it holds for; MariaDB has no FILTER."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _pending(row: Row[Any]) -> Pending:
    return Pending(
        record_id=row.id,
        record=None if row.deleted_at is not None else record_of(row),
        version=row.version,
        revision=row.revision,
        tag=row.tag,
    )


def _chunks(ids: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    """SQLite takes no more than some thousand parameters."""
    return (ids[start : start + size] for start in range(0, len(ids), size))
