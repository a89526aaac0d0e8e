"""Keys rotate while everything runs: C2, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.database import DatabaseRecordStore
from api_server.custody.errors import KeyStillNeededError
from api_server.custody.keys import count_by_key, sealed_columns
from api_server.custody.mirror.ledger import Copy, MirrorLedger
from api_server.custody.rotation import Rotation, check_unneeded, rotate
from api_server.db.database import Database
from api_server.db.types import Sealed
from common.crypto.envelope import Envelope, SealContext
from common.crypto.errors import KeyFileError, KeyMissingError, SealBrokenError
from common.crypto.keyring import Keyring, KeyringFile, add_key, ensure_keyring, forget_key
from tests.api_server.custody.samples import CANARY, changed, opened, record
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio

ELSEWHERE = MetaData()
SHELF = Table(
    "shelf",
    ELSEWHERE,
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("place", String(10), primary_key=True),
    Column("a", Sealed),
    Column("b", Sealed),
)
COLUMNS = (*sealed_columns(), *sealed_columns(ELSEWHERE))
CONTEXT = SealContext(kind="k", team="t", owner="o", name="n", id="i", version=1)


def silent(_done: int, _total: int) -> None:
    """Nothing."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ensure_keyring(tmp_path / "keyring.json")
    return tmp_path / "keyring.json"


@pytest.fixture
async def shelf(database: Database) -> AsyncIterator[Database]:
    """With a table of another domain, whose key has two columns."""
    await database.write(lambda tx: tx.run_sync(ELSEWHERE.create_all))
    yield database
    await database.write(lambda tx: tx.run_sync(ELSEWHERE.drop_all))


async def fill(database: Database, envelope: Envelope, count: int) -> DatabaseRecordStore:
    store = DatabaseRecordStore(database, FakeClock())
    for number in range(count):
        await store.put(record(number, envelope=envelope), expected=0)

    async def work(tx: AsyncConnection) -> None:
        for number in range(count):
            sealed = envelope.seal(f"{CANARY} {number}".encode(), CONTEXT)
            await tx.execute(
                insert(SHELF).values(
                    row=number // 3, place=f"p{number % 3}", a=sealed, b=None if number % 2 else sealed
                )
            )

    await database.write(work)
    return store


async def count(database: Database) -> dict[str, int]:
    return dict(await database.read(lambda tx: count_by_key(tx, COLUMNS)))


async def test_c2_every_sealed_column_gets_the_new_key_and_the_old_one_retires(shelf: Database, path: Path) -> None:
    running = Envelope(KeyringFile(path))  # of a process that runs meanwhile
    (old,) = running.keyring.ids
    store = await fill(shelf, running, 20)
    told: list[tuple[int, int]] = []
    done = await rotate(shelf, path, lambda done, total: told.append((done, total)), batch=7, columns=COLUMNS)
    assert (done.rewrapped, done.remaining, done.retired) == (50, 0, [old])
    assert told[-1] == (50, 50)
    assert [now for now, _ in told] == sorted({now for now, _ in told})
    assert await count(shelf) == {done.key: 50}
    assert [key.id for key in Keyring.from_file(path).retired] == [old]
    kept = await store.list(limit=100)
    assert [opened(each, running) for each in kept] == [f"{CANARY}-{number:04}-1" for number in range(20)]

    async def shelved(tx: AsyncConnection) -> list[str]:
        rows = (await tx.execute(select(SHELF.c.a).order_by(SHELF.c.row, SHELF.c.place))).scalars()
        return [running.open(sealed, CONTEXT).reveal().decode() for sealed in rows]

    assert await shelf.read(shelved) == [f"{CANARY} {number}" for number in range(20)]
    # What was sealed with the old key by a process that had not heard still opens, and the next rotation has it.
    again = await rotate(shelf, path, silent, columns=COLUMNS)
    assert (again.rewrapped, again.retired) == (50, [done.key])


async def test_c2_it_is_stopped_and_goes_on(shelf: Database, path: Path) -> None:
    await fill(shelf, Envelope(KeyringFile(path)), 20)
    (old,) = Keyring.from_file(path).ids
    batches: list[int] = []

    async def one_batch() -> Rotation:
        batches.clear()
        return await rotate(
            shelf,
            path,
            lambda now, _total: batches.append(now),
            stopped=lambda: bool(batches),
            batch=7,
            columns=COLUMNS,
        )

    rewrapped = 0
    while (done := await one_batch()).remaining:
        rewrapped += done.rewrapped
        assert (done.retired, len(batches)) == ([], 1)
        assert await count(shelf) == {done.key: rewrapped, old: 50 - rewrapped}
        assert len(Keyring.from_file(path).ids) == 2, "a rotation that goes on adds no other key"
    assert rewrapped + done.rewrapped == 50
    assert done.retired == [old]


async def test_c2_what_changes_meanwhile_keeps_its_change(shelf: Database, path: Path) -> None:
    running = Envelope(KeyringFile(path))
    store = await fill(shelf, running, 6)
    slow = Envelope(Keyring.from_file(path))  # of a process that does not see the new key yet

    add_key(path)
    newer = changed(await store.get("ptk_0003"), envelope=slow)
    await store.put(newer, expected=1)
    done = await rotate(shelf, path, silent, batch=2, columns=COLUMNS)
    assert done.remaining == 0
    assert opened(await store.get("ptk_0003"), running) == f"{CANARY}-ptk_0003-2"
    straggler = changed(await store.get("ptk_0004"), envelope=slow)  # after the retirement
    await store.put(straggler, expected=1)
    assert opened(await store.get("ptk_0004"), running) == f"{CANARY}-ptk_0004-2"
    with pytest.raises(KeyStillNeededError, match="1 sealed texts need"):
        await check_unneeded(shelf, path, slow.keyring.first.id)


async def test_c2_a_key_is_forgotten_when_nothing_here_or_at_a_mirror_needs_it(database: Database, path: Path) -> None:
    envelope = Envelope(KeyringFile(path))
    (old,) = envelope.keyring.ids
    store = DatabaseRecordStore(database, FakeClock())
    await store.put(record(1, envelope=envelope), expected=0)
    with pytest.raises(KeyStillNeededError):
        await check_unneeded(database, path, old)
    ledger = MirrorLedger("git")

    async def mirrored(tx: AsyncConnection) -> None:
        await ledger.pin(tx, "git x", 1.0, number=1, digest="")
        await ledger.acknowledge(tx, [Copy("ptk_0001", 1, 1, "0" * 64, "tag")], 1.0)

    await database.write(mirrored)
    new = (await rotate(database, path, silent)).key
    with pytest.raises(KeyStillNeededError, match="mirrors have not got 1 records"):
        await check_unneeded(database, path, old)
    await database.write(lambda tx: ledger.acknowledge(tx, [Copy("ptk_0001", 1, 2, "0" * 64, "tag")], 1.0))
    with pytest.raises(KeyStillNeededError):
        await check_unneeded(database, path, new)
    with pytest.raises(KeyFileError):
        forget_key(path, new)
    await check_unneeded(database, path, old)
    forget_key(path, old)
    assert Keyring.from_file(path).ids == (new,)
    assert opened(await store.get("ptk_0001"), envelope) == f"{CANARY}-0001-1"
    with pytest.raises(KeyMissingError):
        await check_unneeded(database, path, old)


async def test_c2_a_row_that_is_broken_stops_it_and_loses_nothing(shelf: Database, path: Path) -> None:
    envelope = Envelope(KeyringFile(path))
    await fill(shelf, envelope, 3)
    sealed = envelope.seal(b"x", CONTEXT)
    parts = sealed.split(".")
    broken = ".".join([*parts[:2], "A" * len(parts[2]), parts[3]])
    await shelf.write(lambda tx: tx.execute(insert(SHELF).values(row=9, place="p", a=broken)))
    before = await count(shelf)
    with pytest.raises(SealBrokenError):
        await rotate(shelf, path, silent, columns=COLUMNS)
    assert sum((await count(shelf)).values()) == sum(before.values())
    assert len(Keyring.from_file(path).keys) == 2, "nothing is retired"
