"""Finds out whether the log is as it was written.

A row was        found by
changed          its hash
removed          the gap in the numbers
inserted         its hash, or the end of the chain
put elsewhere    its hash: the number is part of it
cut off          the end of the chain; and if that was altered, too, the checkpoint of a row that is not there

Whoever can write to the database can compute hashes, too. What they cannot do without the key is sign: so nothing up to
the newest checkpoint can be altered unseen, except that the newest rows and all their checkpoints are removed together,
or the whole log. That is seen with a head that was noted elsewhere before (`expected`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Text, func, select, type_coerce
from sqlalchemy import Row as Record
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.chain import FIRST, Checkpoint, Row, hash_of
from api_server.audit.keys import CheckpointVerifier
from api_server.audit.log import EVERY
from api_server.audit.tables import audit_checkpoints, audit_head, audit_log
from api_server.db.database import Database

__all__ = ["Finding", "Head", "Problem", "Report", "verify"]

_BATCH = 500
"""Rows read at a time."""

_MAX_PROBLEMS = 100
"""What is reported; one alteration shows in a few places, and a thousand lines say no more."""


class Problem(StrEnum):
    """What is wrong at a row."""

    CHANGED = "changed"
    """The row is not the one that its hash was computed over."""
    MISSING = "missing"
    """Rows are not there."""
    NOT_LINKED = "not_linked"
    """The row does not follow the one before it."""
    OUTSIDE = "outside"
    """The row's number is below 1, or behind the end of the chain."""
    WRONG_END = "wrong_end"
    """The end of the chain is not the last row, or is missing."""
    CHECKPOINT_MISSING = "checkpoint_missing"
    CHECKPOINT_FORGED = "checkpoint_forged"
    """The signature does not hold."""
    CHECKPOINT_KEY_UNKNOWN = "checkpoint_key_unknown"
    """It is signed with a key that was not given; nothing can be said about it."""
    CHECKPOINT_CONTRADICTED = "checkpoint_contradicted"
    """The row that was signed had another hash, or is not there."""
    NOT_AS_EXPECTED = "not_as_expected"
    """The row has another hash than the one noted elsewhere, or is not there."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong."""

    problem: Problem
    seq: int
    """Of the row."""
    detail: str


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a log. Noted elsewhere, it proves later that nothing before it was altered."""

    seq: int
    hash: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out."""

    intact: bool
    rows: int
    checkpoints: int
    head: Head | None
    """The last row; None when there is none."""
    checkpoint: int
    """The newest row that is proven by a signature; 0 for none."""
    findings: list[Finding]
    """At most 100."""


@dataclass(slots=True)
class _State:
    rows: int = 0
    seq: int = 0
    hash: str = FIRST
    signed: int = 0


async def verify(database: Database, verifier: CheckpointVerifier, *, expected: Sequence[Head] = ()) -> Report:
    """Verify the whole log. Others may write to it meanwhile.

    Args:
        database: with the log.
        verifier: knows the keys of the checkpoints.
        expected: heads that were noted elsewhere before.

    Raises:
        DatabaseUnavailableError: it cannot be read.
    """
    return await _Verification(database, verifier, {head.seq: head.hash for head in expected}).run()


class _Verification:
    def __init__(self, database: Database, verifier: CheckpointVerifier, expected: Mapping[int, str]) -> None:
        self._database = database
        self._verifier = verifier
        self._expected = expected
        self._state = _State()
        self._findings: list[Finding] = []
        self._seen: set[int] = set()
        """Checkpoints that were checked."""

    async def run(self) -> Report:
        state = self._state
        while True:
            # All that is before this end has been committed before it.
            end = await self._database.read(_read_head)
            async for records, checkpoints in self._batches(0 if end is None else end.seq):
                self._check(records, checkpoints)
            if await self._database.read(_read_head) == end:
                break
        await self._check_end(end)
        for seq, digest in self._expected.items():
            if seq > state.seq:
                self._add(Problem.NOT_AS_EXPECTED, seq, f"row {seq}, noted with hash {digest}, is not there")
        return Report(
            intact=not self._findings,
            rows=state.rows,
            checkpoints=len(self._seen),
            head=Head(seq=state.seq, hash=state.hash) if state.rows else None,
            checkpoint=state.signed,
            findings=self._findings[:_MAX_PROBLEMS],
        )

    async def _batches(self, until: int) -> AsyncIterator[tuple[Sequence[Record[Any]], dict[int, Record[Any]]]]:
        """The rows after the last one that was checked, and the checkpoints in between."""
        while True:
            start = self._state.seq

            async def read(tx: AsyncConnection, start: int = start) -> Any:
                rows = (await tx.execute(_ROWS.where(audit_log.c.seq > start, audit_log.c.seq <= until))).all()
                last = until if len(rows) < _BATCH else rows[-1].seq
                between = _CHECKPOINTS.where(audit_checkpoints.c.seq > start, audit_checkpoints.c.seq <= last)
                return rows, {record.seq: record for record in await tx.execute(between)}

            rows, checkpoints = await self._database.read(read)
            yield rows, checkpoints
            if len(rows) < _BATCH:
                return

    def _check(self, records: Sequence[Record[Any]], checkpoints: dict[int, Record[Any]]) -> None:
        for record in records:
            self._check_row(record)
            self._check_checkpoint(record.seq, checkpoints.pop(record.seq, None))
            wanted = self._expected.get(record.seq)
            if wanted is not None and wanted != self._state.hash:
                self._add(Problem.NOT_AS_EXPECTED, record.seq, f"its hash was {wanted} when it was noted")
        for seq in sorted(checkpoints):
            self._check_checkpoint(seq, checkpoints[seq], missing=True)

    def _check_row(self, record: Record[Any]) -> None:
        state = self._state
        row = Row(**{name: getattr(record, name) for name in Row.__slots__})
        computed = hash_of(row)
        if row.seq != state.seq + 1:
            gone = f"row {row.seq - 1} is" if row.seq == state.seq + 2 else f"rows {state.seq + 1} to {row.seq - 1} are"
            self._add(Problem.MISSING, state.seq + 1, f"{gone} not there")
        elif row.prev_hash != state.hash:
            self._add(Problem.NOT_LINKED, row.seq, f"it does not follow row {state.seq} as that is now")
        if computed != record.hash:
            self._add(Problem.CHANGED, row.seq, f"its hash would be {computed}, and is {record.hash}")
        state.rows += 1
        state.seq = row.seq
        # As it is kept, not as computed: or each row after a changed one would be reported, too.
        state.hash = record.hash

    def _check_checkpoint(self, seq: int, record: Record[Any] | None, *, missing: bool = False) -> None:
        state = self._state
        if record is None:
            if seq % EVERY == 0:
                self._add(Problem.CHECKPOINT_MISSING, seq, f"every row whose number ends in {str(EVERY)[1:]} has one")
            return
        if seq in self._seen:
            return
        self._seen.add(seq)
        checkpoint = Checkpoint(seq=seq, hash=record.hash, time=record.time, key_id=record.key_id)
        if not self._verifier.knows(record.key_id):
            self._add(Problem.CHECKPOINT_KEY_UNKNOWN, seq, f"it is signed with key {record.key_id}")
        elif not self._verifier.holds(checkpoint, record.signature):
            self._add(Problem.CHECKPOINT_FORGED, seq, "its signature does not hold")
        elif missing:
            self._add(Problem.CHECKPOINT_CONTRADICTED, seq, "it was signed, and is not there")
        elif record.hash != state.hash:
            self._add(Problem.CHECKPOINT_CONTRADICTED, seq, f"its hash was {record.hash} when it was signed")
        else:
            state.signed = seq

    async def _check_end(self, end: Head | None) -> None:
        state = self._state
        if end is None:
            self._add(Problem.WRONG_END, state.seq, "the end of the chain is missing")
        elif (end.seq, end.hash) != (state.seq, state.hash):
            self._add(
                Problem.WRONG_END, state.seq, f"the chain ends with row {end.seq} and hash {end.hash}, the rows do not"
            )
        outside, signed = await self._database.read(_read_outside)
        for seq in outside:
            self._add(Problem.OUTSIDE, seq, "no row of the chain has that number")
        for record in signed:
            self._check_checkpoint(record.seq, record, missing=True)

    def _add(self, problem: Problem, seq: int, detail: str) -> None:
        self._findings.append(Finding(problem=problem, seq=seq, detail=detail))


_ROWS = (
    select(
        *(audit_log.c[name] for name in Row.__slots__ if name not in ("time", "before", "after")),
        type_coerce(audit_log.c.time, BigInteger()).label("time"),
        # As text: what was hashed is how it is kept, not what it means.
        type_coerce(audit_log.c.before, Text()).label("before"),
        type_coerce(audit_log.c.after, Text()).label("after"),
        audit_log.c.hash,
    )
    .order_by(audit_log.c.seq)
    .limit(_BATCH)
)

_CHECKPOINTS = select(
    audit_checkpoints.c.seq,
    audit_checkpoints.c.hash,
    type_coerce(audit_checkpoints.c.time, BigInteger()).label("time"),
    audit_checkpoints.c.key_id,
    audit_checkpoints.c.signature,
)

# Each in one statement, so that what others commit meanwhile is in both parts of it, or in neither.
_END = select(func.coalesce(func.max(audit_head.c.seq), 0)).scalar_subquery()
_OUTSIDE = (
    select(audit_log.c.seq)
    .where((audit_log.c.seq < 1) | (audit_log.c.seq > _END))
    .order_by(audit_log.c.seq)
    .limit(_MAX_PROBLEMS)
)
_SIGNED_OUTSIDE = (
    _CHECKPOINTS.where((audit_checkpoints.c.seq < 1) | (audit_checkpoints.c.seq > _END))
    .order_by(audit_checkpoints.c.seq)
    .limit(_MAX_PROBLEMS)
)


async def _read_head(tx: AsyncConnection) -> Head | None:
    record = (await tx.execute(select(audit_head.c.seq, audit_head.c.hash))).one_or_none()
    return None if record is None else Head(seq=record.seq, hash=record.hash)


async def _read_outside(tx: AsyncConnection) -> tuple[Sequence[int], Sequence[Record[Any]]]:
    return (await tx.execute(_OUTSIDE)).scalars().all(), (await tx.execute(_SIGNED_OUTSIDE)).all()
