"""Leases on each kind of database: who competes, what runs out, and a holder that comes late (B1)."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.signin.tables import once
from api_server.db.database import Database
from api_server.leases.errors import LeaseLostError
from api_server.leases.interfaces import Lease
from api_server.leases.store import DatabaseLeases
from api_server.leases.tables import leases as table
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def taken(leases: DatabaseLeases, name: str = "a", seconds: float = 10) -> Lease:
    lease = await leases.acquire(name, seconds)
    assert lease is not None
    return lease


async def test_b1_of_those_who_compete_one_gets_it(database: Database, database_url: str, clock: FakeClock) -> None:
    """Two connections to the database stand for two processes, each with many who ask."""
    async with Database.connect(database_url) as second:
        there = DatabaseLeases(second, clock, owner="there")
        here = DatabaseLeases(database, clock, owner="here")
        for _ in range(3):  # a row that is not there yet, and one that has run out
            got = await asyncio.gather(*(each.acquire("a", 10) for each in (here, there) * 10))
            (lease,) = [each for each in got if each is not None]
            assert lease.expires_at == clock.wall() + 10
            assert await there.until("a") == lease.expires_at
            clock.advance(10)


async def test_one_that_was_given_back_can_be_taken(database: Database, clock: FakeClock) -> None:
    leases = DatabaseLeases(database, clock)
    lease = await taken(leases)
    assert await leases.acquire("a", 10) is None
    assert (await taken(leases, "b")).name == "b"
    await leases.release(lease)
    assert await leases.until("a") is None
    assert (await taken(leases)).token > lease.token
    await leases.release(lease)  # that of a holder before: nothing happens
    assert await leases.acquire("a", 10) is None


async def test_one_whose_holder_died_is_free_when_it_runs_out(database: Database, clock: FakeClock) -> None:
    dead, alive = DatabaseLeases(database, clock, owner="dead"), DatabaseLeases(database, clock, owner="alive")
    lease = await taken(dead)
    clock.advance(9.9)
    assert await alive.acquire("a", 10) is None
    clock.advance(0.1)
    successor = await taken(alive)
    assert successor.owner == "alive"
    assert successor.token > lease.token


async def test_renewing(database: Database, clock: FakeClock) -> None:
    leases = DatabaseLeases(database, clock)
    lease = await taken(leases)
    clock.advance(9)
    lease = await leases.renew(lease, 10)
    clock.advance(9)
    assert await leases.acquire("a", 10) is None
    clock.advance(5)
    await leases.renew(lease, 10)  # late, but nobody had taken it
    clock.advance(10)
    await taken(leases)
    with pytest.raises(LeaseLostError):
        await leases.renew(lease, 10)


async def test_tokens_grow_though_the_clock_goes_back_or_the_row_is_dropped(
    database: Database, clock: FakeClock
) -> None:
    leases = DatabaseLeases(database, clock)
    tokens = []
    for _ in range(3):
        lease = await taken(leases)
        tokens.append(lease.token)
        await leases.release(lease)
        clock.wall_now -= 1
    clock.advance(10)
    await database.write(lambda tx: leases.forget(tx, "a"))
    tokens.append((await taken(leases)).token)
    assert tokens == sorted(set(tokens))


async def test_b1_the_commit_of_a_late_holder_is_refused(database: Database, clock: FakeClock) -> None:
    leases = DatabaseLeases(database, clock)

    async def keep(tx: AsyncConnection, lease: Lease, key: str) -> None:
        await leases.check(tx, lease)
        await tx.execute(insert(once).values(kind="test", key=key, expires_at=1.0))

    late = await taken(leases)
    clock.advance(10)
    await database.write(lambda tx: keep(tx, late, "late, but alone"))
    successor = await taken(leases)
    with pytest.raises(LeaseLostError):
        await database.write(lambda tx: keep(tx, late, "too late"))
    await database.write(lambda tx: keep(tx, successor, "in time"))
    await database.write(lambda tx: leases.forget(tx, "a"))
    with pytest.raises(LeaseLostError):
        await database.write(lambda tx: keep(tx, successor, "forgotten"))

    async def keys(tx: AsyncConnection) -> list[str]:
        return list((await tx.execute(select(once.c.key).order_by(once.c.key))).scalars())

    assert await database.read(keys) == ["in time", "late, but alone"]


async def test_b1_nobody_takes_over_between_the_check_and_the_commit(
    database: Database, database_url: str, clock: FakeClock
) -> None:
    leases = DatabaseLeases(database, clock)
    lease = await taken(leases)
    clock.advance(10)
    checked, go_on = asyncio.Event(), asyncio.Event()

    async def work(tx: AsyncConnection) -> None:
        await leases.check(tx, lease)
        checked.set()
        await go_on.wait()

    async with Database.connect(database_url) as second, asyncio.TaskGroup() as tasks:
        holder = tasks.create_task(database.write(work))
        await checked.wait()
        rival = tasks.create_task(DatabaseLeases(second, clock).acquire("a", 10))
        done, _ = await asyncio.wait([rival], timeout=0.1)
        assert not done
        go_on.set()
        await holder
    assert rival.result() is not None


async def test_holding_renews_and_gives_back(database: Database) -> None:
    class Ticking(FakeClock):
        """A second passes each time it is looked at."""

        def wall(self) -> float:
            self.advance(1)
            return self.wall_now

    leases = DatabaseLeases(database, Ticking())
    async with leases.hold("a", 0.03) as lease:  # seconds of the loop, which wakes it; those of the clock tick
        assert lease is not None
        while (await database.read(_until_a)) <= lease.expires_at:
            await asyncio.sleep(0.01)
    async with leases.hold("b", 1000) as lease, leases.hold("b", 1000) as second:
        assert lease is not None
        assert second is None
    assert (await taken(leases, "b")).token > lease.token


async def _until_a(tx: AsyncConnection) -> float:
    return float((await tx.execute(select(table.c.expires_at).where(table.c.name == "a"))).scalar_one())
