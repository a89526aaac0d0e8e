"""Refreshes that are overtaken, interrupted, or whose answer cannot be kept at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.database import DatabaseRecordStore
from api_server.custody.errors import StoreUnavailableError
from api_server.custody.interfaces import Also
from api_server.custody.records import Record
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.db.errors import DatabaseUnavailableError
from api_server.leases.store import DatabaseLeases
from api_server.leases.tables import leases
from api_server.outbound.http import OutboundHttp
from api_server.provider_tokens.errors import ConnectionNotFoundError, NeedsReconnectError, ProviderAwayError
from api_server.provider_tokens.grants.attempts import Attempt, Attempts, RefreshAnswer
from api_server.provider_tokens.grants.records import Grant, GrantKey
from common.crypto.envelope import Envelope
from common.crypto.keyring import Keyring, new_wrapping_key
from common.secret import Secret
from tests.api_server.fakes import FakeClock
from tests.api_server.provider_tokens.double import Double
from tests.api_server.provider_tokens.parts import KEY, Parts, parts_over
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio


class FlakyStore(DatabaseRecordStore):
    """Is away for some changes."""

    faults = 0

    async def put(self, record: Record, *, expected: int, also: Also | None = None) -> None:
        if FlakyStore.faults > 0:
            FlakyStore.faults -= 1
            raise StoreUnavailableError("it is away")
        await super().put(record, expected=expected, also=also)


class FlakyAttempts(Attempts):
    """Cannot write an answer down for some time."""

    faults = 0

    async def answered(self, key: GrantKey, attempt: Attempt, answer: RefreshAnswer) -> bool:
        if FlakyAttempts.faults > 0:
            FlakyAttempts.faults -= 1
            raise DatabaseUnavailableError("it is away")
        return await super().answered(key, attempt, answer)


@dataclass
class Stage:
    """Two processes, as far as a database can tell."""

    database: Database
    clock: FakeClock
    double: Double
    one: Parts
    two: Parts

    async def connected(self) -> None:
        """A grant whose access token has run out."""
        self.double.current["r1"] = 1
        await self.one.tokens.auth_tokens(KEY).store_tokens(Secret("a1"), Secret("r1"), self.clock.wall() + 100, 0)
        self.clock.advance(200)

    async def hung(self) -> asyncio.Task[Grant]:
        """A refresh by the first, whose request has reached the provider."""
        self.double.mode = "hang"
        self.double.arrived.clear()
        task = asyncio.ensure_future(self.one.tokens.access_token(KEY))
        await self.double.arrived.wait()
        self.double.mode = "well"
        return task

    async def lease_runs_out(self) -> None:
        """As for a process that is not scheduled for half a minute."""

        async def work(tx: AsyncConnection) -> None:
            await tx.execute(update(leases).where(leases.c.name == KEY.lease).values(expires_at=0.0))

        await self.database.write(work)


@pytest.fixture
async def stage(fresh_database: FreshDatabase, double: Double, outbound: OutboundHttp) -> AsyncIterator[Stage]:
    FlakyStore.faults = FlakyAttempts.faults = 0
    clock, envelope = FakeClock(), Envelope(Keyring([new_wrapping_key()]))
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database:
            one, two = (
                parts_over(
                    database,
                    envelope,
                    clock,
                    double.url,
                    outbound,
                    store=FlakyStore(database, clock),
                    attempts=FlakyAttempts,
                )
                for _ in range(2)
            )
            yield Stage(database, clock, double, one, two)


def refresh_token(grant: Grant) -> str:
    assert grant.refresh_token is not None
    return grant.refresh_token.reveal()


async def test_b1_who_finds_another_process_at_it_waits_for_what_comes_of_it(stage: Stage) -> None:
    await stage.connected()
    first = await stage.hung()
    second = asyncio.ensure_future(stage.two.tokens.access_token(KEY))
    stage.double.go_on.set()
    assert (await first).access_token == (await second).access_token
    assert stage.double.shown == {"r1": 1}


async def test_b1_while_another_process_is_at_it_what_is_left_is_handed_out_at_once(stage: Stage) -> None:
    stage.double.current["r1"] = 1
    await stage.one.tokens.auth_tokens(KEY).store_tokens(Secret("a1"), Secret("r1"), stage.clock.wall() + 1000, 0)
    stage.clock.advance(900)
    first = await stage.hung()
    assert (await stage.two.tokens.access_token(KEY)).access_token == Secret("a1")
    stage.double.go_on.set()
    assert (await first).access_token != Secret("a1")
    assert stage.double.shown == {"r1": 1}


async def test_b5_a_process_that_slept_through_its_lease_keeps_its_answer_all_the_same(stage: Stage) -> None:
    """Under a new one, with a new fencing token."""
    await stage.connected()
    task = await stage.hung()
    await stage.lease_runs_out()
    # Somebody else takes it, does nothing, and lets it run out: the fencing token of the first is an old one.
    assert await DatabaseLeases(stage.database, stage.clock).acquire(KEY.lease, 30) is not None
    await stage.lease_runs_out()
    stage.double.go_on.set()
    grant = await task
    assert stage.double.current == {refresh_token(grant): 1}
    assert (await stage.two.tokens.access_token(KEY)).access_token == grant.access_token
    assert await stage.one.attempts.pending(KEY) is None


async def test_b5_an_answer_that_comes_late_brings_a_grant_back_that_was_believed_dead(stage: Stage) -> None:
    """The provider has rotated for the first, whose answer is on its way; the second is refused. The store still has
    what was shown, so what was given for it counts.
    """
    await stage.connected()
    stage.double.strict = False
    stage.double.hangs_after = True
    task = await stage.hung()
    await stage.lease_runs_out()
    with pytest.raises(NeedsReconnectError, match="refresh_outcome_lost"):
        await stage.two.tokens.access_token(KEY)
    stage.double.go_on.set()
    grant = await task
    assert grant.dead is None
    assert stage.double.current == {refresh_token(grant): 1}
    assert (await stage.two.tokens.access_token(KEY)).access_token == grant.access_token


async def test_b5_an_answer_is_held_while_the_database_is_away(stage: Stage) -> None:
    await stage.connected()
    FlakyAttempts.faults = FlakyStore.faults = 3
    grant = await stage.one.tokens.access_token(KEY)
    assert stage.double.current == {refresh_token(grant): 1}
    assert stage.double.shown == {"r1": 1}
    assert (await stage.two.tokens.access_token(KEY)).access_token == grant.access_token


async def test_what_is_given_after_a_disconnect_is_taken_back(stage: Stage) -> None:
    """The record is gone by the time that the answer comes: what was given is not to live on."""
    await stage.connected()
    task = await stage.hung()
    grant = await stage.two.records.get(KEY)
    await stage.two.records.delete(KEY, expected=grant.version)
    stage.double.go_on.set()
    with pytest.raises(ConnectionNotFoundError):
        await task
    assert not stage.double.current
    assert len(stage.double.revoked) == 2


async def test_a_process_that_ends_carries_what_it_began_to_its_end_and_begins_nothing(stage: Stage) -> None:
    await stage.connected()
    task = await stage.hung()
    closing = asyncio.ensure_future(stage.one.refresher.aclose())
    await asyncio.sleep(0)
    stage.double.go_on.set()
    await closing
    assert refresh_token(await task) in stage.double.current
    assert stage.one.refresher.statistics() == {"refreshing": []}
    stage.clock.advance(7200)
    with pytest.raises(ProviderAwayError, match="ending"):
        await stage.one.tokens.access_token(KEY)
    assert (await stage.two.tokens.access_token(KEY)).dead is None
