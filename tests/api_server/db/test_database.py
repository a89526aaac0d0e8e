"""Transactions on each kind of database."""

from __future__ import annotations

import asyncio
import random
import stat
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.signin.tables import once, users
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.db.errors import DatabaseConflictError, DatabaseSchemaError, DatabaseUnavailableError
from api_server.devices.tables import devices
from api_server.teams.tables import members, teams
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio


async def _add_once(tx: AsyncConnection, key: str = "a", expires_at: float = 5.0) -> None:
    await tx.execute(insert(once).values(kind="test", key=key, expires_at=expires_at))


async def _keys(tx: AsyncConnection) -> list[str]:
    return list((await tx.execute(select(once.c.key).order_by(once.c.key))).scalars())


async def test_what_was_written_is_read(database: Database) -> None:
    await database.write(_add_once)
    assert await database.read(_keys) == ["a"]


async def test_work_that_raises_leaves_nothing(database: Database) -> None:
    async def work(tx: AsyncConnection) -> None:
        await _add_once(tx)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(work)
    assert await database.read(_keys) == []


async def test_a_read_changes_nothing(database: Database) -> None:
    await database.read(_add_once)
    assert await database.read(_keys) == []


async def test_a_broken_constraint_is_a_conflict(database: Database) -> None:
    await database.write(_add_once)
    with pytest.raises(DatabaseConflictError) as caught:
        await database.write(_add_once)
    assert caught.value.status == 409


async def test_a_reference_to_nothing_is_a_conflict(database: Database) -> None:
    async def work(tx: AsyncConnection) -> None:
        await tx.execute(insert(members).values(team_id="none", user_id="none", role="ADMIN", since=0.0))

    with pytest.raises(DatabaseConflictError):
        await database.write(work)


async def test_our_own_fault_is_no_error_of_the_database(database: Database) -> None:
    async def work(tx: AsyncConnection) -> None:
        await tx.execute(text("SELECT a FROM nowhere"))

    with pytest.raises(DBAPIError, match="nowhere"):
        await database.write(work)
    await database.write(_add_once)


@pytest.mark.parametrize("seconds", [0.0, 1.5, 1_799_999_999.123456, 4_102_444_800.000001])
async def test_times_keep_their_microseconds(database: Database, seconds: float) -> None:
    await database.write(lambda tx: _add_once(tx, expires_at=seconds))
    found = await database.read(lambda tx: tx.scalar(select(once.c.expires_at)))
    assert found == pytest.approx(seconds, abs=1e-9)


async def test_text_is_compared_exactly_and_ordered_by_code_points(database: Database) -> None:
    keys = ["a", "A", "a ", "á", "ß", "ss", "_", "Z", "\N{PILE OF POO}", "\ufb01"]
    random.Random(1).shuffle(keys)
    for key in keys:
        await database.write(lambda tx, key=key: _add_once(tx, key))
    assert await database.read(_keys) == sorted(keys)


async def test_json_comes_back_as_it_was(database: Database) -> None:
    services = {"web": {"ports": [1, 2.5, None, True]}, "ß\N{PILE OF POO}": "x" * 100_000}

    async def work(tx: AsyncConnection) -> None:
        await tx.execute(insert(teams).values(id="home", name="Home", description="", created_at=0.0))
        await tx.execute(
            insert(devices).values(
                id="dev_1",
                team_id="home",
                name="one",
                created_at=0.0,
                created_by_kind="user",
                created_by="usr_1",
                services=services,
            )
        )

    await database.write(work)
    row = (await database.read(lambda tx: tx.execute(select(devices)))).one()
    assert row.services == services


@pytest.mark.parametrize("database_kind", [Kind.POSTGRESQL, Kind.MARIADB], ids=["postgresql", "mariadb"])
async def test_text_that_is_too_long_is_refused_not_cut(database: Database) -> None:
    """SQLite knows no lengths: what comes from outside is checked before."""
    with pytest.raises(DBAPIError):
        await database.write(lambda tx: _add_once(tx, "x" * 256))


async def test_an_update_counts_the_rows_that_it_matched(database: Database) -> None:
    """Also those that it did not change: a compare-and-set depends on it."""
    await database.write(_add_once)

    async def work(tx: AsyncConnection) -> int:
        return (await tx.execute(update(once).values(expires_at=5.0))).rowcount

    assert await database.write(work) == 1


async def test_of_many_who_insert_the_same_one_does(database: Database) -> None:
    async def attempt() -> bool:
        try:
            await database.write(_add_once)
        except DatabaseConflictError:
            return False
        return True

    outcomes = await asyncio.gather(*(attempt() for _ in range(50)))
    assert outcomes.count(True) == 1


async def test_a_compare_and_set_succeeds_once_among_two_processes(database: Database, database_url: str) -> None:
    await database.write(_add_once)

    async def take(tx: AsyncConnection) -> int:
        statement = update(once).where(once.c.expires_at == 5.0).values(expires_at=6.0)
        return (await tx.execute(statement)).rowcount

    async with Database.connect(database_url) as other:
        taken = await asyncio.gather(*(each.write(take) for each in (database, other) for _ in range(50)))
    assert sorted(taken) == [0] * 99 + [1]


async def test_transactions_that_wait_for_each_other_are_run_again(database: Database, database_url: str) -> None:
    """Two writers that lock two rows in opposite order: on servers one of them is told of a deadlock."""
    for key in ("a", "b"):
        await database.write(lambda tx, key=key: _add_once(tx, key))
    both = asyncio.Barrier(2)

    def work(first: str, second: str) -> object:
        met = False

        async def transaction(tx: AsyncConnection) -> None:
            nonlocal met
            await tx.execute(update(once).where(once.c.key == first).values(expires_at=once.c.expires_at + 1))
            if not met and database.kind is not Kind.SQLITE:
                met = True
                await both.wait()
            await tx.execute(update(once).where(once.c.key == second).values(expires_at=once.c.expires_at + 1))

        return transaction

    async with Database.connect(database_url) as other:
        await asyncio.gather(database.write(work("a", "b")), other.write(work("b", "a")))  # type: ignore[arg-type]
    times = (await database.read(lambda tx: tx.execute(select(once.c.expires_at)))).scalars().all()
    assert times[0] == times[1] != 5.0


async def test_a_writer_that_is_cancelled_finishes(database: Database) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work(tx: AsyncConnection) -> None:
        inside.set()
        await go_on.wait()
        await _add_once(tx)

    task = asyncio.create_task(database.write(work))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await database.close()
    with pytest.raises(DatabaseUnavailableError):
        await database.read(_keys)


async def test_close_waits_for_writers(database: Database, database_url: str) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work(tx: AsyncConnection) -> None:
        inside.set()
        await go_on.wait()
        await _add_once(tx)

    task = asyncio.create_task(database.write(work))
    await inside.wait()
    closing = asyncio.create_task(database.close())
    go_on.set()
    await closing
    await task
    async with Database.connect(database_url) as other:
        assert await other.read(_keys) == ["a"]


async def test_what_takes_too_long_is_given_up_and_undone(database_url: str, database: Database) -> None:
    async with Database.connect(database_url, deadline=0.2) as hurried:

        async def work(tx: AsyncConnection) -> None:
            await _add_once(tx)
            await asyncio.get_running_loop().create_future()

        with pytest.raises(DatabaseUnavailableError) as caught:
            await hurried.write(work)
        assert caught.value.status == 503
        assert caught.value.retry_after is not None
    assert await database.read(_keys) == []


async def test_more_readers_than_connections_wait(database_url: str) -> None:
    async with Database.connect(database_url, pool_size=2) as small:
        assert await asyncio.gather(*(small.read(_keys) for _ in range(20))) == [[]] * 20


async def test_cascades_and_restrictions_hold(database: Database) -> None:
    async def work(tx: AsyncConnection) -> None:
        await tx.execute(insert(teams).values(id="home", name="Home", description="", created_at=0.0))
        await tx.execute(
            insert(users).values(
                id="usr_1",
                issuer="i",
                subject="s",
                email_verified=False,
                name="",
                created_at=0.0,
                last_sign_in_at=0.0,
            )
        )
        await tx.execute(insert(members).values(team_id="home", user_id="usr_1", role="ADMIN", since=0.0))

    await database.write(work)
    with pytest.raises(DatabaseConflictError):
        await database.write(lambda tx: tx.execute(delete(teams)))
    assert await database.read(lambda tx: tx.scalar(select(func.count()).select_from(teams))) == 1


async def test_a_migrated_database_passes_the_check(database: Database) -> None:
    await database.check()
    await database.ping()


async def test_an_empty_database_does_not(fresh_database: FreshDatabase, database_kind: Kind) -> None:
    with fresh_database(database_kind, migrated=False) as url:
        async with Database.connect(url) as database:
            await database.ping()
            with pytest.raises(DatabaseSchemaError, match="homeport db upgrade"):
                await database.check()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:hunter2@127.0.0.1:1/none",
        "mysql+asyncmy://u:hunter2@127.0.0.1:1/none",
        "postgresql+psycopg://u:hunter2@/none?host=/nowhere",
        "mysql+asyncmy://u:hunter2@/none?unix_socket=/nowhere",
    ],
)
async def test_a_server_that_is_not_there_is_unavailable(url: str) -> None:
    async with Database.connect(url) as database:
        with pytest.raises(DatabaseUnavailableError) as caught:
            await database.write(_add_once)
        assert "hunter2" not in str(caught.value)
        assert "hunter2" not in database.name


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "homeport.db"
    path.write_text("This is not a database. " * 1000)
    async with Database.connect(f"sqlite:///{path}") as database:
        with pytest.raises(DatabaseUnavailableError):
            await database.read(_keys)


async def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailableError, match="No such file"):
        Database.connect(f"sqlite:///{tmp_path}/nowhere/homeport.db")


async def test_the_file_of_sqlite_is_for_its_owner_only(fresh_database: FreshDatabase) -> None:
    with fresh_database(Kind.SQLITE, migrated=False) as url:
        folder = Path(url.removeprefix("sqlite:///")).parent
        async with Database.connect(url) as database:
            await database.write(lambda tx: tx.execute(text("CREATE TABLE t (a)")))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"homeport.db": 0o600, "homeport.db-wal": 0o600, "homeport.db-shm": 0o600}


async def test_sqlite_readers_do_not_wait_for_a_writer(fresh_database: FreshDatabase) -> None:
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database:

            async def work(tx: AsyncConnection) -> list[str]:
                await _add_once(tx)
                return await database.read(_keys)

            assert await database.write(work) == []


async def test_sqlite_waits_for_another_process_and_then_says_busy(fresh_database: FreshDatabase) -> None:
    """It waits some seconds in each of few attempts; here no time passes between them."""
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as holder, Database.connect(url, deadline=0.5) as other:

            async def work(_: AsyncConnection) -> None:
                with pytest.raises(DatabaseUnavailableError):
                    await other.write(_add_once)

            await holder.write(work)
            await other.write(_add_once)


_WHO_AM_I = {Kind.POSTGRESQL: "SELECT pg_backend_pid()", Kind.MARIADB: "SELECT CONNECTION_ID()"}
_KILL = {Kind.POSTGRESQL: "SELECT pg_terminate_backend({})", Kind.MARIADB: "KILL {}"}


@pytest.mark.parametrize("database_kind", list(_KILL), ids=["postgresql", "mariadb"])
async def test_a_connection_that_is_cut_is_unavailable_once_and_then_replaced(
    database: Database, database_url: str
) -> None:
    async with Database.connect(database_url, pool_size=1) as other:

        async def cut(number: int) -> None:
            await database.read(lambda tx: tx.exec_driver_sql(_KILL[database.kind].format(number)))

        async def who(tx: AsyncConnection) -> int:
            return int((await tx.exec_driver_sql(_WHO_AM_I[database.kind])).scalar_one())

        async def cut_within(tx: AsyncConnection) -> None:
            await _add_once(tx, "cut")
            await cut(await who(tx))
            await _add_once(tx, "more")

        with pytest.raises(DatabaseUnavailableError):
            await other.write(cut_within)
        await cut(await other.read(who))  # while it is idle: nobody notices
        await other.write(lambda tx: _add_once(tx, "after"))
    assert await database.read(_keys) == ["after"]
