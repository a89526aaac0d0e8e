"""New keys for everything that is sealed, while everything runs.

    add       a fresh key is put first, unless a rotation is under way: what is sealed from now on needs it
    re-wrap   every sealed column of every table, in batches; the payload is not opened. A row that somebody else
              changes at that moment is left to the next pass
    retire    the other keys, once no row needs them. They still open what a process that had not seen the new key has
              sealed meanwhile, until somebody has them forgotten

Where it has come is in the rows themselves: it can be stopped or killed at any point, and goes on. Records have their
`revision` raised, so that mirrors get them re-wrapped, too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Column, Integer, Table, and_, func, literal_column, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.errors import KeyStillNeededError
from api_server.custody.keys import count_by_key, sealed_columns
from api_server.custody.mirror.mirror import Progress
from api_server.custody.tables import custody_copies, custody_mirrors, custody_records
from api_server.db.database import Database
from common.crypto.envelope import PREFIX_LENGTH, Envelope, prefix_of
from common.crypto.keyring import Keyring, KeyringFile, add_key, retire_keys

__all__ = ["Rotation", "check_unneeded", "rotate"]

_BATCH = 200
"""Rows in one transaction."""

_PASSES = 5
"""Over all columns; each is for what others have changed during the one before."""


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    key: str
    """The key that wraps now."""
    rewrapped: int
    remaining: int
    """Rows that still need another key: it was stopped, and goes on when it is called again."""
    retired: list[str]
    """Keys that nothing needs any more."""


async def rotate(
    database: Database,
    path: Path,
    progress: Progress,
    *,
    stopped: Callable[[], bool] = lambda: False,
    batch: int = _BATCH,
    columns: tuple[Column[str], ...] | None = None,
) -> Rotation:
    """Have everything wrapped by a new key, or go on with that.

    Args:
        database: with the schema of this code.
        path: of the keyring.
        progress: told how many rows of how many are done.
        stopped: asked after each batch; true ends it.
        batch: rows in one transaction.
        columns: by default every sealed one of the schema.

    Raises:
        KeyFileError: the keyring cannot be read or written.
        SealError: a row is broken, or its key is missing; the rows before it are done.
        DatabaseError: the database is unavailable.
    """
    asked = sealed_columns() if columns is None else columns
    if len(Keyring.from_file(path).keys) == 1:
        add_key(path)
    envelope = Envelope(KeyringFile(path))
    first = envelope.keyring.first.id
    total = await _remaining(database, asked, first)
    done = 0
    for _ in range(_PASSES):
        for column in asked:
            after: tuple[Any, ...] | None = None
            while not stopped():
                after, count, seen = await _rewrap(database, column, envelope, first, after, batch)
                done += count
                if count:
                    progress(done, max(total, done))
                if seen < batch:
                    break
        if stopped() or not await _remaining(database, asked, first):
            break
    remaining = await _remaining(database, asked, first)
    retired = [] if remaining else [key.id for key in envelope.keyring.keys[1:]]
    if retired:
        retire_keys(path, retired)
    return Rotation(key=first, rewrapped=done, remaining=remaining, retired=retired)


async def check_unneeded(database: Database, path: Path, key_id: str) -> None:
    """Find out whether a key can be forgotten, as far as the database knows.

    Raises:
        KeyStillNeededError: something in the database needs it, or a mirror has not got everything re-wrapped yet.
        KeyFileError: the keyring cannot be read.
        KeyMissingError: there is no such key.
    """
    Keyring.from_file(path).get(key_id)

    async def work(tx: AsyncConnection) -> tuple[int, int]:
        needed = (await count_by_key(tx, sealed_columns()))[key_id]
        behind = (
            select(func.count())
            .select_from(
                custody_mirrors.join(custody_copies, custody_copies.c.mirror == custody_mirrors.c.name).join(
                    custody_records, custody_records.c.id == custody_copies.c.record_id
                )
            )
            .where(custody_copies.c.revision != custody_records.c.revision)
        )
        return needed, int((await tx.execute(behind)).scalar_one())

    needed, behind = await database.read(work)
    if needed:
        raise KeyStillNeededError(f"{needed} sealed texts need {key_id}; `homeport custody rotate-keys` re-wraps them")
    if behind:
        raise KeyStillNeededError(f"mirrors have not got {behind} records yet as they are now; let them sync first")


async def _remaining(database: Database, columns: tuple[Column[str], ...], first: str) -> int:
    counted = await database.read(lambda tx: count_by_key(tx, columns))
    return sum(number for key_id, number in counted.items() if key_id != first)


async def _rewrap(
    database: Database,
    column: Column[str],
    envelope: Envelope,
    first: str,
    after: tuple[Any, ...] | None,
    batch: int,
) -> tuple[tuple[Any, ...] | None, int, int]:
    """Re-wrap the next rows; gives where to go on, how many were done, and how many were looked at."""
    table = column.table
    assert isinstance(table, Table)
    key = tuple(table.primary_key.columns)
    prefix = func.substr(column, literal_column("1", Integer), literal_column(str(PREFIX_LENGTH), Integer))
    query = select(*key, column.label("sealed_text")).where(column.is_not(None), prefix != prefix_of(first))
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*after) if len(key) > 1 else key[0] > after[0])
    query = query.order_by(*key).limit(batch)
    extra: dict[Any, Any] = {}
    if table is custody_records:
        extra = {custody_records.c.revision: custody_records.c.revision + 1}

    async def work(tx: AsyncConnection) -> tuple[tuple[Any, ...] | None, int, int]:
        rows = (await tx.execute(query)).all()
        done = 0
        for row in rows:
            same = and_(*(part == row[place] for place, part in enumerate(key)), column == row.sealed_text)
            result = await tx.execute(
                update(table).where(same).values({column: envelope.rewrap(row.sealed_text), **extra})
            )
            done += result.rowcount
        return (tuple(rows[-1][: len(key)]) if rows else after), done, len(rows)

    return await database.write(work)
