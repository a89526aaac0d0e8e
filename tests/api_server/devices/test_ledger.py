"""The ledger of revocations, on each kind of database."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.db.database import Database
from api_server.db.errors import DatabaseUnavailableError
from api_server.devices.interfaces import Revocation
from api_server.devices.ledger import RevocationLedger
from api_server.devices.tables import revocations
from tests.api_server.fakes import AWAY, HOME

pytestmark = pytest.mark.anyio


def revocation(name: str, expires_at: float = 100.0, **changes: object) -> Revocation:
    fields = {"id": name, "kind": "credential", "team": HOME, "expires_at": expires_at, **changes}
    return Revocation(**fields)  # type: ignore[arg-type]


@pytest.fixture
async def ledger(database: Database) -> RevocationLedger:
    return RevocationLedger(database)


async def test_it_begins_empty(ledger: RevocationLedger) -> None:
    assert await ledger.in_force(0) == []


async def test_what_was_added_is_in_force_until_it_expires(ledger: RevocationLedger) -> None:
    first, second = revocation("a", 100), revocation("b", 200)
    await ledger.add(first, 0)
    await ledger.add(second, 1)
    assert await ledger.in_force(99) == [first, second]
    assert await ledger.in_force(100) == [second]


async def test_said_twice_the_later_expiry_holds(ledger: RevocationLedger) -> None:
    for expires_at in (100, 300, 200):
        await ledger.add(revocation("a", expires_at), 0)
    assert await ledger.in_force(0) == [revocation("a", 300)]


async def test_kind_and_team_are_part_of_the_name(ledger: RevocationLedger) -> None:
    for changes in ({}, {"kind": "device"}, {"team": AWAY}):
        await ledger.add(revocation("a", **changes), 0)
    assert len(await ledger.in_force(0)) == 3


async def test_what_has_expired_is_dropped(ledger: RevocationLedger, database: Database) -> None:
    for number in range(5):
        await ledger.add(revocation(f"old-{number}", 100), 0)
    await ledger.add(revocation("new", 500), 200)
    assert await database.read(lambda tx: tx.scalar(select(func.count()).select_from(revocations))) == 1


async def test_processes_that_share_it_lose_nothing(ledger: RevocationLedger, database_url: str) -> None:
    """Each is said by both at once."""
    async with Database.connect(database_url) as other:
        ledgers = [ledger, RevocationLedger(other)]
        said = [(each, revocation(f"c-{n}", 50 + index)) for n in range(20) for index, each in enumerate(ledgers)]
        await asyncio.gather(*(each.add(what, 0) for each, what in said))
        found = await ledgers[1].in_force(0)
    assert {(each.id, each.expires_at) for each in found} == {(f"c-{number}", 51) for number in range(20)}


async def test_it_is_kept_with_what_it_belongs_to_or_not_at_all(ledger: RevocationLedger, database: Database) -> None:
    async def work(tx: AsyncConnection) -> None:
        await ledger.keep(tx, revocation("a"), 0)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(work)
    assert await ledger.in_force(0) == []


async def test_without_a_database_nothing_is_said_to_be_in_force(ledger: RevocationLedger, database: Database) -> None:
    await database.close()
    with pytest.raises(DatabaseUnavailableError):
        await ledger.in_force(0)
    with pytest.raises(DatabaseUnavailableError):
        await ledger.add(revocation("a"), 0)
