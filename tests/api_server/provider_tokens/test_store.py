"""`AuthTokenStore` and `OfflineTokenStore`, on each database."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.tables import custody_records
from api_server.db.database import Database
from api_server.outbound.http import OutboundHttp
from api_server.provider_tokens.errors import ConnectionNotFoundError, OfflineTokenNotFoundError
from api_server.provider_tokens.grants.records import BUFFER, Grant, GrantKey
from api_server.provider_tokens.grants.store import AuthTokenStore
from common.crypto.envelope import Envelope
from common.crypto.errors import SealBrokenError
from common.crypto.keyring import Keyring, new_wrapping_key
from common.ids import TeamId
from common.secret import Secret
from tests.api_server.fakes import FakeClock
from tests.api_server.provider_tokens.double import Double
from tests.api_server.provider_tokens.parts import KEY, OTHER, Parts, parts_over

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def parts(database: Database, clock: FakeClock, double: Double, outbound: OutboundHttp) -> Parts:
    return parts_over(database, Envelope(Keyring([new_wrapping_key()])), clock, double.url, outbound)


def store_of(parts: Parts, key: GrantKey = KEY) -> AuthTokenStore:
    return parts.tokens.auth_tokens(key)


async def test_tokens_are_kept_and_loaded(parts: Parts, clock: FakeClock) -> None:
    store = store_of(parts)
    with pytest.raises(ConnectionNotFoundError):
        await store.load_tokens()
    await store.store_tokens(Secret("a1"), Secret("r1"), clock.wall() + 100, 0, scopes=("repo",), account="ann")
    loaded = await store_of(parts).load_tokens()
    assert (loaded.access_token, loaded.refresh_token) == (Secret("a1"), Secret("r1"))
    assert (loaded.access_token_expires_at, loaded.refresh_token_expires_at) == (clock.wall() + 100, 0)
    assert (loaded.scopes, loaded.account, loaded.version) == (("repo",), "ann", 1)


async def test_there_is_one_row_for_each_team_user_and_provider(parts: Parts, database: Database) -> None:
    keys = [KEY, OTHER, GrantKey(TeamId("away"), KEY.user, KEY.provider), GrantKey(KEY.team, KEY.user, "github")]
    for number in range(3):
        for key in keys:
            await store_of(parts, key).store_tokens(Secret(f"{key.record_id}-{number}"), None, 0, 0)
    count = select(func.count()).select_from(custody_records)

    async def counted(tx: AsyncConnection) -> int:
        return int((await tx.execute(count)).scalar_one())

    assert await database.read(counted) == len(keys)
    for key in keys:
        grant = await store_of(parts, key).load_tokens()
        assert (grant.access_token, grant.version) == (Secret(f"{key.record_id}-2"), 3)


async def test_many_who_store_at_once_leave_one_whole(parts: Parts) -> None:
    async def one(number: int) -> None:
        await store_of(parts).store_tokens(Secret(f"a{number}"), Secret(f"r{number}"), 0, 0)

    await asyncio.gather(*(one(number) for number in range(5)))
    kept = await store_of(parts).load_tokens()
    assert kept.access_token is not None
    assert kept.refresh_token is not None
    assert kept.access_token.reveal()[1:] == kept.refresh_token.reveal()[1:]
    assert kept.version == 5


async def test_one_that_was_deleted_comes_back_newer(parts: Parts) -> None:
    """So that no old version can be put back where a newer one is expected (C1)."""
    store = store_of(parts)
    grant = await store.store_tokens(Secret("a1"), None, 0, 0)
    await parts.records.delete(KEY, expected=grant.version)
    with pytest.raises(ConnectionNotFoundError):
        await store.load_tokens()
    assert (await store.store_tokens(Secret("a2"), None, 0, 0)).version > grant.version
    assert (await store.load_tokens()).access_token == Secret("a2")


async def test_c1_what_is_moved_or_put_back_does_not_open(parts: Parts, database: Database) -> None:
    await store_of(parts).store_tokens(Secret("a1"), None, 0, 0)
    await store_of(parts, OTHER).store_tokens(Secret("b1"), None, 0, 0)
    old = (await parts.store.get(KEY.record_id)).sealed
    theirs = (await parts.store.get(OTHER.record_id)).sealed
    await store_of(parts).store_tokens(Secret("a2"), None, 0, 0)
    for planted in (theirs, old):

        async def plant(tx: AsyncConnection, sealed: str = planted) -> None:
            here = custody_records.c.id == KEY.record_id
            await tx.execute(update(custody_records).where(here).values(sealed=sealed))

        await database.write(plant)
        with pytest.raises(SealBrokenError):
            await store_of(parts).load_tokens()


async def test_the_validity_of_tokens(parts: Parts, clock: FakeClock) -> None:
    store = store_of(parts)
    assert not store.is_access_token_valid()
    await store.store_tokens(Secret("a1"), Secret("r1"), clock.wall() + 3600, clock.wall() + 7200)
    assert store.is_access_token_valid()
    clock.advance(3600 - BUFFER - 0.5)
    assert store.is_access_token_valid()
    clock.advance(1)
    assert not store.is_access_token_valid()
    assert store.is_refresh_token_valid()
    clock.advance(3600)
    assert not store.is_refresh_token_valid()
    await store.store_tokens(Secret("a1"), Secret("r1"), 0, 0)
    clock.advance(10**9)
    assert store.is_access_token_valid()
    assert store.is_refresh_token_valid()
    await store.store_tokens(Secret("a1"), None, 0, 0)
    assert not store.is_refresh_token_valid()


async def test_load_checks_the_expiration_and_refreshes_if_it_is_told_how(
    parts: Parts, clock: FakeClock, double: Double
) -> None:
    store = store_of(parts)
    double.current["r1"] = 1
    await store.store_tokens(Secret("a1"), Secret("r1"), clock.wall() + 3600, 0)
    clock.advance(3600)
    assert (await store.load_tokens()).access_token == Secret("a1")
    refreshed = await store.load_tokens(parts.refresher)
    assert refreshed.access_token != Secret("a1")
    assert store.is_access_token_valid()
    assert double.shown == {"r1": 1}


async def test_an_offline_token_is_kept_for_a_user(parts: Parts, database: Database) -> None:
    store = parts.tokens.offline_tokens("usr_1")
    with pytest.raises(OfflineTokenNotFoundError):
        await store.load_token()
    await store.store_token(Secret("c4nary-1"))
    await store.store_token(Secret("c4nary-2"), scopes=("openid",))
    assert await parts.tokens.load_offline_token("usr_1") == Secret("c4nary-2")
    with pytest.raises(OfflineTokenNotFoundError):
        await parts.tokens.load_offline_token("usr_2")

    async def dump(tx: AsyncConnection) -> str:
        return str((await tx.execute(select(custody_records))).all())

    assert "c4nary" not in await database.read(dump)


@pytest.mark.parametrize(
    ("expires_in", "age", "due", "valid"),
    [
        (7200, 6599, False, True),
        (7200, 6601, True, True),
        (7200, 7171, True, False),
        (100, 79, False, True),  # a fifth of the life
        (100, 81, True, False),
        (10, 7.9, False, True),
        (0, 10**9, False, True),  # never
    ],
)
def test_when_a_refresh_is_due(expires_in: float, age: float, due: bool, valid: bool) -> None:
    grant = Grant(
        access_token=Secret("a"),
        refresh_token=Secret("r"),
        access_token_expires_at=expires_in and 1000 + expires_in,
        refresh_token_expires_at=0,
        issued_at=1000,
    )
    assert grant.is_refresh_due(1000 + age, 600) is due
    assert grant.is_access_token_valid(1000 + age) is valid
