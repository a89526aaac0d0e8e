"""Provider tokens whose records have to be at a primary, which is away, or slower than anybody waits: B5."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from api_server.custody.database import DatabaseRecordStore
from api_server.custody.errors import PrimaryBehindError, StoreUnavailableError
from api_server.custody.interfaces import Also
from api_server.custody.records import Record
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.outbound.http import OutboundHttp
from api_server.provider_tokens.errors import NeedsReconnectError
from api_server.teams.roles import Role
from common.crypto.envelope import Envelope
from common.crypto.keyring import Keyring, new_wrapping_key
from common.crypto.session_tokens import SessionTokenSigner
from common.secret import Secret
from tests.api_server.fakes import FakeClock
from tests.api_server.provider_tokens.double import Double
from tests.api_server.provider_tokens.flow import PATH, staged
from tests.api_server.provider_tokens.parts import KEY, Parts, parts_over
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio


class PrimaryStub(DatabaseRecordStore):
    """Keeps records as a store with a primary does."""

    away = False
    """The primary does not answer."""
    behind = False
    """It acknowledges nothing in time."""

    async def ready(self) -> None:
        if self.away:
            raise StoreUnavailableError("the primary does not take changes")

    async def put(self, record: Record, *, expected: int, also: Also | None = None) -> None:
        await super().put(record, expected=expected, also=also)
        self._answer()

    async def delete(self, record_id: str, *, expected: int, also: Also | None = None) -> None:
        await super().delete(record_id, expected=expected, also=also)
        self._answer()

    def _answer(self) -> None:
        if self.behind:
            raise PrimaryBehindError("it is kept in the database")


@dataclass
class Stage:
    """A grant that is refreshed when it is due."""

    store: PrimaryStub
    parts: Parts
    clock: FakeClock
    double: Double

    async def connected(self) -> None:
        """A grant with an access token for 1,000 seconds."""
        self.double.current["r1"] = 1
        await self.parts.tokens.auth_tokens(KEY).store_tokens(Secret("a1"), Secret("r1"), self.clock.wall() + 1000, 0)

    async def access_token(self) -> str:
        grant = await self.parts.tokens.access_token(KEY)
        assert grant.access_token is not None
        return grant.access_token.reveal()


@pytest.fixture
async def stage(fresh_database: FreshDatabase, double: Double, outbound: OutboundHttp) -> AsyncIterator[Stage]:
    clock, envelope = FakeClock(), Envelope(Keyring([new_wrapping_key()]))
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database:
            store = PrimaryStub(database, clock)
            yield Stage(store, parts_over(database, envelope, clock, double.url, outbound, store=store), clock, double)


async def test_b5_nothing_is_refreshed_while_the_primary_is_away_and_what_is_left_is_handed_out(stage: Stage) -> None:
    await stage.connected()
    stage.store.away = True
    stage.clock.advance(900)  # due, and good for a call
    assert await stage.access_token() == "a1"
    stage.clock.advance(200)
    with pytest.raises(StoreUnavailableError, match="primary"):
        await stage.access_token()
    assert stage.double.shown == {}
    assert await stage.parts.attempts.pending(KEY) is None
    stage.store.away = False
    assert await stage.access_token() != "a1"
    assert stage.double.shown == {"r1": 1}


@pytest.mark.parametrize("rotates", [True, False], ids=["rotating", "not rotating"])
async def test_b5_what_was_given_and_is_not_acknowledged_is_kept_and_handed_out(stage: Stage, rotates: bool) -> None:
    stage.double.rotates = rotates
    await stage.connected()
    stage.store.behind = True
    stage.clock.advance(1100)
    given = await stage.access_token()
    assert given != "a1"
    assert await stage.access_token() == given
    assert stage.double.shown == {"r1": 1}
    kept = await stage.parts.records.get(KEY)
    assert kept.version == 2
    assert kept.access_token == Secret(given)
    assert await stage.parts.attempts.pending(KEY) is None


async def test_b4_a_grant_that_has_died_is_dead_though_the_primary_has_not_heard(stage: Stage) -> None:
    await stage.connected()
    stage.double.invalidate()
    stage.store.behind = True
    stage.clock.advance(1100)
    with pytest.raises(NeedsReconnectError):
        await stage.access_token()
    assert len(stage.parts.mourned.told) == 1


async def test_nothing_is_asked_of_a_provider_that_could_not_be_kept(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, double: Double, outbound: OutboundHttp
) -> None:
    stores: list[PrimaryStub] = []

    with fresh_database(Kind.SQLITE) as url:
        async with (
            Database.connect(url) as database,
            staged(
                database,
                signer,
                double,
                outbound,
                records=lambda domains: stores.append(PrimaryStub(database, FakeClock())) or stores[0],
            ) as flow,
        ):
            (store,) = stores
            ann = await flow.home.person("ann", home=Role.DEVELOPER)
            browser = flow.browser(ann)
            brought = double.consent(await flow.begin(browser))
            store.away = True
            answer = await flow.come_back(browser, brought)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert answer.headers["Retry-After"]
            assert double.asked == []
            store.away = False
            store.behind = True
            answer = await flow.come_back(browser, brought)
            assert (answer.status_code, answer.json()["code"]) == (503, "primary_behind")
            assert (await flow.show(ann))["state"] == "active"
            assert (await flow.hand_out(ann)).status_code == 200
            gone = await flow.home.call("DELETE", f"{PATH}/gitlab", ann)
            assert (gone.status_code, gone.json()["code"]) == (503, "primary_behind")
            assert double.revoked
            assert (await flow.home.call("GET", f"{PATH}/gitlab", ann)).status_code == 404
            events = [change.event for change in flow.home.changes.announced]
            assert events == ["provider_token.connected", "provider_token.disconnected"]
            assert [line.action for line in flow.home.audit.lines if line.action.startswith("provider")] == [
                "provider_token.connected",
                "provider_token.handed_out",
                "provider_token.disconnected",
            ]
