"""Which keys the database needs: C2, on each database."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.keys import check_keys, count_by_key, sealed_columns
from api_server.db.database import Database
from api_server.db.types import Sealed
from common.crypto.envelope import Envelope, SealContext
from common.crypto.errors import KeyMissingError, SealBrokenError
from common.crypto.keyring import Keyring, new_wrapping_key

pytestmark = pytest.mark.anyio

ELSEWHERE = MetaData()
DRAWER = Table("drawer", ELSEWHERE, Column("id", Integer, primary_key=True), Column("content", Sealed))
SHELF = Table("shelf", ELSEWHERE, Column("id", Integer, primary_key=True), Column("a", Sealed), Column("b", Sealed))
COLUMNS = sealed_columns(ELSEWHERE)

CONTEXT = SealContext(kind="k", team="t", owner="o", name="n", id="i", version=1)


def sealed(keyring: Keyring) -> str:
    return Envelope(keyring).seal(b"content", CONTEXT)


async def fill(database: Database, *rows: dict[str, object]) -> None:
    async def work(tx: AsyncConnection) -> None:
        await tx.run_sync(ELSEWHERE.create_all)
        for number, row in enumerate(rows, 1):
            await tx.execute(insert(SHELF if "a" in row else DRAWER).values(id=number, **row))

    await database.write(work)


async def clear(database: Database) -> None:
    async def work(tx: AsyncConnection) -> None:
        await tx.run_sync(ELSEWHERE.drop_all)

    await database.write(work)


def test_the_sealed_columns_are_found_by_their_type() -> None:
    assert [f"{column.table.name}.{column.name}" for column in COLUMNS] == ["drawer.content", "shelf.a", "shelf.b"]


async def test_c2_the_keys_that_are_needed_are_counted_and_a_missing_one_is_named(database: Database) -> None:
    one, two = Keyring([new_wrapping_key()]), Keyring([new_wrapping_key()])
    both = Keyring([*one.keys, *two.keys])
    try:
        await fill(
            database,
            {"content": sealed(one)},
            {"content": None},
            {"a": sealed(one), "b": sealed(two)},
            {"a": sealed(one), "b": None},
        )
        counted = await database.read(lambda tx: count_by_key(tx, COLUMNS))
        assert counted == {one.first.id: 3, two.first.id: 1}
        await check_keys(database, both, COLUMNS)
        with pytest.raises(KeyMissingError, match=rf"\(1 sealed text\) needs the key {two.first.id}"):
            await check_keys(database, one, COLUMNS)
    finally:
        await clear(database)


async def test_what_is_not_sealed_cannot_be_written_and_is_not_quoted(database: Database) -> None:
    try:
        with pytest.raises(Exception, match="no sealed text") as caught:
            await fill(database, {"content": "gho_canary"})
        assert "canary" not in str(caught.value)
    finally:
        await clear(database)


async def test_what_is_not_sealed_and_there_all_the_same_is_found(database: Database) -> None:
    try:
        await fill(database)

        async def work(tx: AsyncConnection) -> None:
            await tx.execute(text("INSERT INTO drawer (id, content) VALUES (7, 'gho_canary')"))

        await database.write(work)
        with pytest.raises(SealBrokenError, match=r"1 rows of drawer\.content hold something") as caught:
            await check_keys(database, Keyring([new_wrapping_key()]), COLUMNS)
        assert "canary" not in str(caught.value)
    finally:
        await clear(database)


async def test_an_empty_database_needs_no_key(database: Database) -> None:
    await check_keys(database, Keyring([new_wrapping_key()]))


def test_every_sealed_column_of_the_schema_is_one_that_rotation_can_reach(tmp_path: Path) -> None:
    """Rotation goes through a table in the order of its primary key."""
    for column in sealed_columns():
        assert list(column.table.primary_key), column.table.name
        assert not column.primary_key
