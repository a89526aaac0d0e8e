"""Revocations reach the relay, now or later, and survive what may happen in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from api_server.db.database import Database
from api_server.devices.interfaces import Revocation
from api_server.devices.ledger import RevocationLedger
from api_server.devices.revocations import RevocationService
from common.crypto.session_tokens import CredentialId
from common.sessions.errors import RelayUnavailableError
from tests.api_server.fakes import HOME, FakeClock, FakeRelay

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


def service(
    relay: FakeRelay, database: Database, sleep: Sleeps | None = None, clock: FakeClock | None = None
) -> RevocationService:
    return RevocationService(
        database, relay, clock=clock or FakeClock(), sleep=sleep if sleep is not None else Sleeps()
    )


async def revoke(
    revocations: RevocationService, database: Database, credential: str = CREDENTIAL, *, expires_at: float | None = None
) -> None:
    """As a service does it: on record, then in force."""
    kept = [Revocation(id=credential, kind="credential", team=HOME, expires_at=expires_at or expiry())]
    await database.write(lambda tx: revocations.keep(tx, kept))
    await revocations.enforce(kept)


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
    await revoke(service(relay, database), database)
    revocation = Revocation(id=CREDENTIAL, kind="credential", team=HOME, expires_at=expiry())
    assert relay.revoked == [revocation]
    assert await in_force(database, 0) == [revocation]


async def test_at_its_start_the_relay_is_told_what_was_revoked_before(database: Database) -> None:
    relay = FakeRelay()
    await revoke(service(relay, database), database)
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
        await revoke(revocations, database)
        revocations.events_lost()
        assert await told(relay, 2) == [[], [CREDENTIAL]]


async def test_p4_a_relay_that_was_away_is_told_as_soon_as_it_answers(database: Database) -> None:
    relay, sleep = FakeRelay(away=True), Sleeps()
    revocations = service(relay, database, sleep)
    with pytest.raises(RelayUnavailableError):
        await revoke(revocations, database)
    async with running(revocations):
        await sleep.asked.wait()
        assert not revocations.settled
        relay.away = False
        sleep.over.set()
        assert await told(relay, 1) == [[CREDENTIAL]]
        assert revocations.settled


async def test_p4_a_revocation_that_failed_later_is_told_too(database: Database) -> None:
    relay, sleep = FakeRelay(), Sleeps()
    sleep.over.set()
    revocations = service(relay, database, sleep)
    async with running(revocations):
        await told(relay, 1)
        relay.away = True
        with pytest.raises(RelayUnavailableError):
            await revoke(revocations, database)
        await sleep.asked.wait()
        relay.away = False
        assert await told(relay, 2) == [[], [CREDENTIAL]]


async def test_what_has_expired_is_not_told_and_goes(database: Database) -> None:
    relay, clock = FakeRelay(), FakeClock()
    revocations = service(relay, database, clock=clock)
    await revoke(revocations, database, "crd_old", expires_at=clock.wall() + 60)
    clock.advance(61)
    async with running(revocations):
        assert await told(relay, 1) == [[]]
    await revoke(revocations, database, "crd_new", expires_at=clock.wall() + 60)
    assert [each.id for each in await in_force(database, 0)] == ["crd_new"]


async def test_of_one_said_twice_the_later_expiry_holds(database: Database) -> None:
    relay = FakeRelay()
    revocations = service(relay, database)
    for seconds in (60, 90, 30):
        await revoke(revocations, database, expires_at=expiry(seconds))
    assert [each.expires_at for each in await in_force(database, 0)] == [expiry(90)]


async def test_a_database_that_is_away_is_asked_again_and_again(database: Database) -> None:
    relay, sleep = FakeRelay(), Sleeps()
    await database.close()
    async with running(service(relay, database, sleep)):
        await sleep.asked.wait()
        assert relay.told == []


async def in_force(database: Database, now: float) -> list[Revocation]:
    return await database.read(lambda tx: RevocationLedger().in_force(tx, now))
