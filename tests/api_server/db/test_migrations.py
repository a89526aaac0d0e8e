"""Each migration, up and down, on each kind of database, empty and with rows in every table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import BigInteger, Connection, Integer, MetaData, String, Table, insert, select, update

from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.db.errors import DatabaseSchemaError
from api_server.db.migrate import current, downgrade, upgrade
from api_server.db.revisions import head, known
from api_server.db.schema import METADATA
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

T = TypeVar("T")

Rows = dict[str, list[tuple[Any, ...]]]


async def _look(database: Database, work: Callable[[Connection], T]) -> T:
    return await database.read(lambda tx: tx.run_sync(work))


async def _change(database: Database, work: Callable[[Connection], T]) -> T:
    return await database.write(lambda tx: tx.run_sync(work))


def _reflect(connection: Connection) -> MetaData:
    metadata = MetaData()
    metadata.reflect(connection)
    return metadata


def _tables(connection: Connection) -> list[Table]:
    return [table for table in _reflect(connection).sorted_tables if table.name != "alembic_version"]


def _fill(connection: Connection) -> None:
    """Two rows in every table that has none, each column with a value that its type allows."""
    for table in _tables(connection):
        if connection.execute(select(table)).first() is not None:
            continue
        count = 1 if table.name in ("installation", "audit_head") else 2
        for number in range(1, count + 1):
            connection.execute(insert(table).values({column.name: _value(column, number) for column in table.columns}))


def _value(column: Any, number: int) -> Any:
    if isinstance(column.type, String):
        text = f"{number}\N{LATIN SMALL LETTER E WITH ACUTE}"
        return text * 1000 if column.type.length is None else text[: column.type.length]
    if isinstance(column.type, BigInteger) and column.name != "seq":
        return 1_799_999_999_123_456 + number
    if isinstance(column.type, Integer):
        return number
    return number % 2


def _rows(connection: Connection) -> Rows:
    return {
        table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
        for table in _tables(connection)
    }


@pytest.fixture
def empty_url(fresh_database: FreshDatabase, database_kind: Kind) -> Any:
    with fresh_database(database_kind, migrated=False) as url:
        yield url


async def test_the_migrations_make_what_the_code_works_with(database: Database) -> None:
    def difference(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)

    assert await _look(database, difference) == []


async def test_the_comparison_sees_a_difference(database: Database) -> None:
    """So that the test before means something."""
    other = MetaData()
    for table in METADATA.tables.values():
        table.to_metadata(other)
    teams = other.tables["teams"]
    teams.c.name.type = String(201)
    teams.c.description.nullable = True

    def difference(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), other)

    kinds = {change[0] for group in await _look(database, difference) for change in group}
    assert kinds == {"modify_nullable", "modify_type"} or (database.kind is Kind.SQLITE and "modify_nullable" in kinds)


async def test_each_migration_up_and_down_keeps_the_rows_of_the_others(empty_url: str) -> None:
    async with Database.connect(empty_url) as database:
        before: Rows = {}
        for older, newer in zip(["base", *known()], known(), strict=False):
            assert (await upgrade(database, newer))[1] == newer
            await _change(database, _fill)
            filled = await _look(database, _rows)
            assert all(filled.values()), "every table has rows"
            assert {name: filled[name] for name in before} == before

            assert (await downgrade(database, older))[1] == (None if older == "base" else older)
            assert await _look(database, _rows) == before
            await upgrade(database, newer)
            await _change(database, _fill)
            before = await _look(database, _rows)
        assert known()[-1] == head()
        assert await downgrade(database, "base") == (head(), None)
        assert await _look(database, _rows) == {}
        assert await upgrade(database) == (None, head())


async def test_to_upgrade_twice_changes_nothing(database: Database) -> None:
    await _change(database, _fill)
    before = await _look(database, _rows)
    assert await upgrade(database) == (head(), head())
    assert await _look(database, _rows) == before


async def test_several_processes_upgrade_at_once(empty_url: str) -> None:
    several = [Database.connect(empty_url) for _ in range(3)]
    await asyncio.gather(*(upgrade(each) for each in several))
    await several[0].check()
    for each in several:
        await each.close()


async def test_a_migration_that_was_cut_is_run_again(fresh_database: FreshDatabase) -> None:
    """MariaDB commits each table by itself: some of a migration's may be there, and its revision not yet."""
    with fresh_database(Kind.MARIADB, migrated=False) as url:
        async with Database.connect(url) as database:
            await upgrade(database)
            await _change(database, lambda connection: _set_revision(connection, "0001"))
            assert await upgrade(database) == ("0001", head())
            assert len((await _look(database, _rows))["audit_head"]) == 1


async def test_an_older_schema_is_refused_with_what_to_do(empty_url: str) -> None:
    async with Database.connect(empty_url) as database:
        await upgrade(database, "0002")
        assert await current(database) == "0002"
        with pytest.raises(DatabaseSchemaError, match=r"has schema 0002.*homeport db upgrade"):
            await database.check()


async def test_a_newer_schema_is_neither_used_nor_touched(empty_url: str) -> None:
    async with Database.connect(empty_url) as database:
        await upgrade(database)
        await _change(database, lambda connection: _set_revision(connection, "9999"))
        with pytest.raises(DatabaseSchemaError, match="newer version"):
            await database.check()
        for step in (upgrade(database), downgrade(database, "base")):
            with pytest.raises(DatabaseSchemaError, match="newer version"):
                await step
        assert await current(database) == "9999"


@pytest.mark.parametrize("revision", ["0000", "", "head+1", "; DROP TABLE users"])
async def test_an_unknown_revision_is_refused(database: Database, revision: str) -> None:
    with pytest.raises(DatabaseSchemaError, match="there is no schema"):
        await upgrade(database, revision)
    with pytest.raises(DatabaseSchemaError, match="there is no schema"):
        await downgrade(database, revision)


def _set_revision(connection: Connection, revision: str) -> None:
    table = _reflect(connection).tables["alembic_version"]
    connection.execute(update(table).values(version_num=revision))
