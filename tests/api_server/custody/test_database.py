"""The record store in the database, on each of the three."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.database import DatabaseRecordStore
from api_server.custody.errors import RecordConflictError
from api_server.custody.keys import check_keys, count_by_key
from api_server.custody.tables import custody_records
from api_server.db.database import Database
from common.crypto.errors import KeyMissingError, SealBrokenError
from common.crypto.keyring import Keyring, new_wrapping_key
from common.ids import TeamId
from tests.api_server.custody.record_store_contract import RecordStoreContract
from tests.api_server.custody.samples import CANARY, ENVELOPE, changed, opened, record
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(database: Database) -> DatabaseRecordStore:
    return DatabaseRecordStore(database, FakeClock())


class TestDatabaseRecordStore(RecordStoreContract):
    """The contract."""


async def _rows(database: Database) -> list[tuple[object, ...]]:
    async def work(tx: AsyncConnection) -> list[tuple[object, ...]]:
        return [tuple(row) for row in await tx.execute(select(custody_records).order_by(custody_records.c.id))]

    return await database.read(work)


async def test_what_also_belongs_to_a_change_is_done_with_it_or_neither_is(
    store: DatabaseRecordStore, database: Database
) -> None:
    async def fails(tx: AsyncConnection) -> None:
        await tx.execute(update(custody_records).values(provider="other"))
        raise RuntimeError("no audit")

    with pytest.raises(RuntimeError):
        await store.put(record(1), expected=0, also=fails)
    assert await _rows(database) == []
    await store.put(record(1), expected=0)
    for attempt in (
        store.put(record(1, version=2), expected=1, also=fails),
        store.delete("ptk_0001", expected=1, also=fails),
    ):
        with pytest.raises(RuntimeError):
            await attempt
    kept = await store.get("ptk_0001")
    assert (kept.version, kept.provider) == (1, "github")


async def test_a_deleted_record_leaves_its_version_and_nothing_sealed(
    store: DatabaseRecordStore, database: Database
) -> None:
    await store.put(record(1, version=4), expected=0)
    await store.delete("ptk_0001", expected=4)
    assert await database.read(lambda tx: count_by_key(tx, [custody_records.c.sealed])) == {}
    for version in (4, 5):
        with pytest.raises(RecordConflictError) as caught:
            await store.put(record(1, version=version), expected=0)
        assert caught.value.current == 5
    await store.put(record(1, version=6), expected=0)
    assert (await store.get("ptk_0001")).version == 6


async def test_a_record_does_not_change_hands(store: DatabaseRecordStore) -> None:
    await store.put(record(1), expected=0)
    for other in (record(1, version=2, team="away"), record(1, version=2, user="usr_2")):
        with pytest.raises(RecordConflictError):
            await store.put(other, expected=1)


async def test_a_team_that_ends_takes_its_records_along(store: DatabaseRecordStore, database: Database) -> None:
    await store.put(record(1, team="away"), expected=0)
    await store.put(record(2), expected=0)
    await database.write(lambda tx: store.drop_team(tx, TeamId("away")))
    assert [each.id for each in await store.list(limit=10)] == ["ptk_0002"]


async def test_c1_rows_that_were_swapped_or_put_back_do_not_open(
    store: DatabaseRecordStore, database: Database
) -> None:
    """By somebody who can write to the database."""
    one, two = record(1, user="usr_1"), record(2, user="usr_2")
    for each in (one, two):
        await store.put(each, expected=0)
    newer = changed(one)
    await store.put(newer, expected=1)

    async def put(record_id: str, sealed: str) -> None:
        there = custody_records.c.id == record_id
        await database.write(lambda tx: tx.execute(update(custody_records).where(there).values(sealed=sealed)))

    assert opened(await store.get(one.id)) == f"{CANARY}-{one.id}-2"
    for sealed in (two.sealed, one.sealed):
        await put(one.id, sealed)
        with pytest.raises(SealBrokenError):
            opened(await store.get(one.id))


async def test_c2_the_check_at_the_start_sees_records(store: DatabaseRecordStore, database: Database) -> None:
    await store.put(record(1), expected=0)
    await check_keys(database, ENVELOPE.keyring)
    with pytest.raises(KeyMissingError, match=ENVELOPE.keyring.first.id):
        await check_keys(database, Keyring([new_wrapping_key()]))


async def test_mirrors_are_told_of_each_change(database: Database) -> None:
    told: list[None] = []
    store = DatabaseRecordStore(database, FakeClock())
    store.add(lambda: told.append(None))
    await store.put(record(1), expected=0)
    await store.put(record(1, version=2), expected=1)
    await store.delete("ptk_0001", expected=2)
    with pytest.raises(RecordConflictError):
        await store.put(record(1), expected=0)
    assert len(told) == 3
