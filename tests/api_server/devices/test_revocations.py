"""Revocations reach the relay, now or later, and survive what may happen in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.db.errors import DatabaseUnavailableError
from api_server.devices.interfaces import Revocation
from api_server.devices.ledger import RevocationLedger
from api_server.devices.revocations import RevocationService
from common.crypto.session_tokens import CredentialId
from common.sessions.errors import RelayUnavailableError
from tests.api_server.fakes import HOME, FakeClock, FakeRelay
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

CREDENTIAL = CredentialId("crd_1")


class Sleeps:
    """Waits until it is told, and counts."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.set()
        await self.over.wait()


class FlakyDatabase:
    """A database that can be taken away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.there = True

    async def read(self, work: Any) -> Any:
        if not self.there:
            raise DatabaseUnavailableError
        return await self._database.read(work)

    async def write(self, work: Any) -> Any:
        if not self.there:
            raise DatabaseUnavailableError
        return await self._database.write(work)


def service(
    relay: FakeRelay, database: Any, sleep: Sleeps | None = None, clock: FakeClock | None = None
) -> RevocationService:
    return RevocationService(
        RevocationLedger(database), relay, clock=clock or FakeClock(), sleep=sleep if sleep is not None else Sleeps()
    )


@pytest.fixture
async def database(fresh_database: FreshDatabase) -> AsyncIterator[Database]:
    """Of the ledger; what differs among the kinds is tested with that."""
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as opened:
            yield opened


@asynccontextmanager
async def running(revocations: RevocationService) -> AsyncIterator[None]:
    task = asyncio.create_task(revocations.run())
    try:
        yield
    finally:
        task.cancel()


async def told(relay: FakeRelay, times: int) -> list[list[str]]:
    """The ids that the relay was told, once it was told so many times."""
    while len(relay.told) < times:
        relay.changed.clear()
        await relay.changed.wait()
    return [[each.id for each in revocations] for revocations in relay.told]


def expiry(seconds: float = 60) -> float:
    return FakeClock().wall() + seconds


async def test_a_revocation_is_kept_and_the_relay_told_within_the_call(database: Database) -> None:
    relay = FakeRelay()
    revocations = service(relay, database)
    await revocations.revoke_credential(HOME, CREDENTIAL, expires_at=expiry())
    assert relay.revoked == [(HOME, CREDENTIAL, expiry())]
    assert await RevocationLedger(database).in_force(0) == [
        Revocation(id=CREDENTIAL, kind="credential", team=HOME, expires_at=expiry())
    ]


async def test_at_its_start_the_relay_is_told_what_was_revoked_before(database: Database) -> None:
    relay = FakeRelay()
    await service(relay, database).revoke_credential(HOME, CREDENTIAL, expires_at=expiry())
    async with running(service(relay, database)):
        assert await told(relay, 1) == [[CREDENTIAL]]


async def test_a_relay_that_waits_is_told_that_nothing_is_revoked(database: Database) -> None:
    relay = FakeRelay()
    revocations = service(relay, database)
    assert not revocations.settled
    async with running(revocations):
        assert await told(relay, 1) == [[]]
        assert revocations.settled


async def test_a_relay_that_may_be_another_one_is_told_again(database: Database) -> None:
    relay = FakeRelay()
    revocations = service(relay, database)
    async with running(revocations):
        await told(relay, 1)
        await revocations.revoke_credential(HOME, CREDENTIAL, expires_at=expiry())
        revocations.events_lost()
        assert await told(relay, 2) == [[], [CREDENTIAL]]


async def test_a_relay_that_was_away_is_told_as_soon_as_it_answers(database: Database) -> None:
    relay, sleep = FakeRelay(away=True), Sleeps()
    revocations = service(relay, database, sleep)
    with pytest.raises(RelayUnavailableError):
        await revocations.revoke_credential(HOME, CREDENTIAL, expires_at=expiry())
    async with running(revocations):
        await sleep.asked.wait()
        assert not revocations.settled
        relay.away = False
        sleep.over.set()
        assert await told(relay, 1) == [[CREDENTIAL]]
        assert revocations.settled


async def test_a_revocation_that_failed_later_is_told_too(database: Database) -> None:
    relay, sleep = FakeRelay(), Sleeps()
    sleep.over.set()
    revocations = service(relay, database, sleep)
    async with running(revocations):
        await told(relay, 1)
        relay.away = True
        with pytest.raises(RelayUnavailableError):
            await revocations.revoke_credential(HOME, CREDENTIAL, expires_at=expiry())
        await sleep.asked.wait()
        relay.away = False
        assert await told(relay, 2) == [[], [CREDENTIAL]]


async def test_what_has_expired_is_not_told(database: Database) -> None:
    relay, clock = FakeRelay(), FakeClock()
    revocations = service(relay, database, clock=clock)
    await revocations.revoke_credential(HOME, CREDENTIAL, expires_at=clock.wall() + 60)
    clock.advance(61)
    async with running(revocations):
        assert await told(relay, 1) == [[]]


async def test_what_cannot_be_kept_is_not_done(database: Database) -> None:
    relay, flaky = FakeRelay(), FlakyDatabase(database)
    flaky.there = False
    with pytest.raises(DatabaseUnavailableError):
        await service(relay, flaky).revoke_credential(HOME, CREDENTIAL, expires_at=expiry())
    assert relay.revoked == []


async def test_a_database_that_is_away_is_asked_again_and_again(database: Database) -> None:
    relay, sleep, flaky = FakeRelay(), Sleeps(), FlakyDatabase(database)
    flaky.there = False
    async with running(service(relay, flaky, sleep)):
        await sleep.asked.wait()
        assert relay.told == []
        flaky.there = True
        sleep.over.set()
        assert await told(relay, 1) == [[]]
