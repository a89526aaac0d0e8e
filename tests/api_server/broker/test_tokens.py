"""B1 to B7 in one process, against a provider that does what providers do, on SQLite and PostgreSQL.

What several processes and their deaths add is in `test_processes.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.broker.tables import realm_tokens
from api_server.db.engine import Kind
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import TeamId
from common.secret import Secret
from tests.api_server.broker.stage import CSRF, BrokerStage, brokered
from tests.api_server.fakes import HOME
from tests.api_server.people import PROGRAM
from tests.databases.fixtures import FreshDatabase
from tests.stack.provider import TokenProvider, token_provider

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider() -> Iterator[TokenProvider]:
    with token_provider() as running:
        yield running


@pytest.fixture(params=[Kind.SQLITE, Kind.POSTGRESQL], ids=lambda kind: kind.name.lower())
async def stage(
    request: pytest.FixtureRequest,
    anyio_backend: str,
    fresh_database: FreshDatabase,
    signer: SessionTokenSigner,
    provider: TokenProvider,
) -> AsyncIterator[BrokerStage]:
    """A realm `r` with the secret `k`."""
    with fresh_database(request.param) as url:
        async with brokered(url, signer, provider) as made:
            await made.realm()
            await made.secret()
            yield made


async def test_a_token_is_fetched_once_and_served_from_then_on(stage: BrokerStage) -> None:
    first = await stage.get()
    now = stage.home.clock.wall()
    assert first.json() == {
        "token": "token-1",
        "token_type": "Bearer",
        "expires_at": now + 7200,
        "source": "upstream",
        "expires_in": 7_200_000,
    }
    assert first.headers["Cache-Control"] == "no-store"
    stage.home.clock.advance(10)
    assert (await stage.get()).json() == first.json() | {"source": "database", "expires_in": 7_190_000}
    assert stage.calls == 1
    assert stage.provider.calls[0].query == {"appid": "app", "secret": "hunter2-secret"}
    (fetch,) = await stage.fetches()
    assert fetch | {"id": "", "process": "", "ended_at": 0} == {
        "id": "",
        "realm": "r",
        "key": "k",
        "reason": "missing",
        "started_at": now,
        "ended_at": 0,
        "outcome": "done",
        "status": 200,
        "code": "",
        "detail": "",
        "process": "",
    }
    assert [each.event for each in stage.home.changes.announced] == ["realm_token.refreshed"]


async def test_b1_all_who_wait_wait_for_one_call(stage: BrokerStage) -> None:
    stage.provider.delay = 0.2
    got = await asyncio.gather(*(stage.get() for _ in range(50)))
    assert {answer.json()["token"] for answer in got} == {"token-1"}
    assert stage.calls == 1


async def test_b1_one_who_goes_away_does_not_end_it(stage: BrokerStage) -> None:
    stage.provider.delay = 0.2
    broker = stage.home.domains.broker.tokens
    async with asyncio.TaskGroup() as tasks:
        gone = tasks.create_task(broker.token(HOME, "r", "k"))
        while not stage.calls:
            await asyncio.sleep(0.01)
        gone.cancel()
        stays = tasks.create_task(broker.token(HOME, "r", "k"))
    assert stays.result() == Secret("token-1")
    assert stage.calls == 1


async def test_b2_the_old_token_is_served_while_the_next_one_comes(stage: BrokerStage) -> None:
    await stage.token()
    stage.home.clock.advance(7200 - 300 - 1)
    assert await stage.token() == "token-1"
    await stage.settled()
    assert stage.calls == 1
    stage.home.clock.advance(300 * 0.2 + 1)
    stage.provider.delay = 0.3
    assert {await stage.token() for _ in range(5)} == {"token-1"}
    await stage.settled()
    assert stage.calls == 2
    assert await stage.token() == "token-2"
    assert [each["reason"] for each in await stage.fetches()] == ["due", "missing"]


async def test_b2_a_margin_longer_than_the_life_is_a_fifth_of_it(stage: BrokerStage) -> None:
    stage.provider.life = 10
    assert await stage.token() == "token-1"
    stage.home.clock.advance(7.9)
    assert await stage.token() == "token-1"
    assert stage.calls == 1
    stage.home.clock.advance(2.2)
    assert await stage.token() == "token-2"


@pytest.mark.parametrize("mode", ["broken", "cut", "huge", "redirect", "error_in_200"])
async def test_b3_a_failure_is_remembered(stage: BrokerStage, mode: str) -> None:
    stage.provider.mode = mode
    assert await stage.refusal() == (502, "provider_failed", "1")
    assert {await stage.refusal() for _ in range(3)} == {(502, "provider_failed", "1")}
    assert stage.calls == 1
    stage.home.clock.advance(1)
    assert await stage.refusal() == (502, "provider_failed", "2")
    assert stage.calls == 2
    stage.provider.mode = "ok"
    stage.home.clock.advance(2)
    await stage.token()
    assert [each["outcome"] for each in await stage.fetches()] == ["done", "failed", "failed"]
    said = {"broken": "http_500", "redirect": "http_302", "error_in_200": "45009"}
    assert (await stage.fetches())[1]["code"] == said.get(mode) or mode in ("cut", "huge")


async def test_b3_a_provider_that_hangs_is_given_up(stage: BrokerStage) -> None:
    await stage.ok("PATCH", "/api/realm/r", {"config": {"timeout": 1}})
    stage.provider.mode = "hang"
    assert await stage.refusal() == (502, "provider_failed", "1")
    assert (await stage.fetches())[0]["code"] == "target_timeout"


async def test_b3_retry_after_is_honoured_for_all_applications(stage: BrokerStage) -> None:
    await stage.secret(key="other")
    stage.provider.mode = "limited"
    assert await stage.refusal() == (502, "provider_failed", "7")
    assert await stage.refusal(key="other") == (503, "provider_paused", "7")
    stage.home.clock.advance(6.9)
    await stage.refusal()
    assert stage.calls == 1
    stage.provider.mode = "ok"
    stage.home.clock.advance(0.2)
    await stage.token()


async def test_b3_a_provider_that_fails_again_and_again_is_left_alone(stage: BrokerStage) -> None:
    stage.provider.mode = "broken"
    for number in range(5):
        await stage.secret(key=f"k{number}")
        assert (await stage.refusal(key=f"k{number}"))[1] == "provider_failed"
    assert await stage.refusal() == (503, "provider_paused", "5")
    assert stage.calls == 5
    assert 'homeport_broker_breakers{state="open"} 1.0' in (await stage.home.call("GET", "/metrics", PROGRAM)).text
    stage.provider.mode = "ok"
    stage.home.clock.advance(5)
    await stage.token()


async def test_b3_no_more_calls_at_once_than_the_cap(stage: BrokerStage) -> None:
    keys = [f"k{number}" for number in range(12)]
    for key in keys:
        await stage.secret(key=key)
    stage.provider.delay = 0.1
    await asyncio.gather(*(stage.token(key=key) for key in keys))
    assert stage.calls == 12
    assert stage.provider.most_under_way <= 8


async def test_an_old_token_is_served_while_the_provider_fails(stage: BrokerStage) -> None:
    await stage.token()
    stage.home.clock.advance(7200 - 100)
    stage.provider.mode = "broken"
    assert {await stage.token() for _ in range(3)} == {"token-1"}
    await stage.settled()
    assert {await stage.token() for _ in range(3)} == {"token-1"}
    await stage.settled()
    assert stage.calls == 2
    stage.home.clock.advance(101)
    assert (await stage.refusal())[1] == "provider_failed"


@pytest.mark.parametrize("what", ["invalid_client", "rule"])
async def test_b4_a_secret_that_the_provider_refuses_is_not_tried_again(stage: BrokerStage, what: str) -> None:
    if what == "rule":
        stage.provider.secret = "another"
    else:
        stage.provider.mode = "refused"
    assert await stage.refusal() == (502, "provider_refused", None)
    stage.home.clock.advance(3600)
    assert await stage.refusal() == (502, "provider_refused", None)
    assert stage.calls == 1
    assert "hunter2" not in str(await stage.fetches())
    stage.provider.mode = "ok"
    await stage.ok("PATCH", "/api/secret/r/k", {"key_2": stage.provider.secret})
    await stage.token()


@pytest.mark.parametrize("mode", ["broken", "cut", "limited", "redirect", "huge"])
async def test_b4_nothing_but_the_word_of_the_provider_does_that(stage: BrokerStage, mode: str) -> None:
    """However often it fails otherwise: it is asked again, and no row and no token is gone."""
    await stage.token()
    stage.provider.mode = mode
    for _ in range(6):
        stage.home.clock.advance(7200)
        await stage.refusal()

    async def rows(tx: AsyncConnection) -> list[tuple[object, object]]:
        query = select(realm_tokens.c.sealed, realm_tokens.c.refused_at)
        return [(row.sealed, row.refused_at) for row in await tx.execute(query)]

    ((sealed, refused_at),) = await stage.home.database.read(rows)
    assert sealed is not None
    assert refused_at is None
    stage.provider.mode = "ok"
    stage.home.clock.advance(7200)
    await stage.token()


async def test_b4_a_refusal_of_what_was_corrected_meanwhile_says_nothing(stage: BrokerStage) -> None:
    stage.provider.secret = "the right one"
    stage.provider.delay = 0.3
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(stage.get())
        while not stage.calls:
            await asyncio.sleep(0.01)
        stage.home.clock.advance(0.1)  # so that the log has an order
        await stage.ok("PATCH", "/api/secret/r/k", {"key_2": "the right one"})
    assert waiting.result().json()["token"] == "token-1"
    assert [each["outcome"] for each in await stage.fetches()] == ["done", "discarded"]


@pytest.mark.parametrize("mode", ["no_life", "wrong_life"])
async def test_b6_the_default_life(stage: BrokerStage, mode: str) -> None:
    await stage.ok("PATCH", "/api/realm/r", {"config": {"default_life": 77}})
    stage.provider.mode, stage.provider.life = mode, "soon"
    assert (await stage.get()).json()["expires_in"] == 77_000
    assert "default" in (await stage.fetches())[0]["detail"]


async def test_b7_flush_has_a_right_and_an_interval_of_its_own(stage: BrokerStage) -> None:
    dev = await stage.home.person("dev", home=Role.DEVELOPER)
    manager = await stage.home.person("manager", home=Role.MANAGER)
    assert (await stage.get(who=dev)).json()["token"] == "token-1"
    assert (await stage.get(who=dev, flush="true")).json()["code"] == "forbidden"
    assert (await stage.get(who=manager, flush="true")).json()["code"] == "csrf_header_missing"
    assert (await stage.get(who=dev, flush="false")).json()["token"] == "token-1"
    query = {"realm": "r", "key": "k", "flush": "true"}
    flushed = await stage.home.call("GET", "/api/token", manager, params=query, headers=CSRF)
    assert (flushed.json()["token"], flushed.json()["source"]) == ("token-2", "upstream")
    assert await stage.refusal(flush="true") == (429, "flush_too_soon", "10")
    assert await stage.token() == "token-2"
    stage.home.clock.advance(10)
    assert await stage.token(flush="true") == "token-3"
    assert stage.calls == 3
    assert stage.home.audit.actions.count("realm_token.flushed") == 2
    assert (await stage.fetches())[0]["reason"] == "flush"


async def test_b7_a_flushed_token_is_not_handed_out_again(stage: BrokerStage) -> None:
    await stage.token()
    stage.provider.mode = "broken"
    assert (await stage.refusal(flush="true"))[1] == "provider_failed"
    assert (await stage.refusal())[1] == "provider_failed"


async def test_where_a_new_token_ends_the_old_one_nobody_gets_the_old_one_meanwhile(stage: BrokerStage) -> None:
    await stage.ok("PATCH", "/api/realm/r", {"config": {"overlap": 0}})
    await stage.token()
    stage.home.clock.advance(7200 - 100)
    stage.provider.delay = 0.1
    got = await asyncio.gather(*(stage.token() for _ in range(10)))
    assert set(got) == {"token-2"}
    assert stage.provider.alive(got[0])
    # The provider says for certain that it has made none: the old one is as good as before.
    stage.home.clock.advance(7200 - 100)
    stage.provider.mode = "error_in_200"
    assert await stage.token() == "token-2"
    # Nobody knows whether it has: the old one may be dead, and is not handed out.
    stage.home.clock.advance(2)
    stage.provider.mode = "cut"
    assert (await stage.refusal())[1] == "provider_failed"


async def test_a_change_of_realm_or_secret_ends_what_is_in_memory(stage: BrokerStage) -> None:
    assert await stage.token() == "token-1"
    await stage.ok("PATCH", "/api/realm/r", {"config": {"token_type": "MAC"}})
    assert (await stage.get()).json()["token"] == "token-2"
    await stage.ok("PATCH", "/api/secret/r/k", {"key_1": "other app"})
    assert await stage.token() == "token-3"
    assert stage.provider.calls[-1].query["appid"] == "other app"
    await stage.ok("PATCH", "/api/realm/r", {"comment": "for people"})
    assert await stage.token() == "token-3"
    await stage.ok("DELETE", "/api/secret/r/k")
    assert await stage.refusal() == (404, "no_such_realm_secret", None)
    await stage.secret()
    assert await stage.token() == "token-4"
    await stage.ok("DELETE", "/api/realm/r")
    assert await stage.refusal() == (404, "no_such_realm", None)


async def test_g2_a_secret_goes_to_the_provider_that_it_was_saved_for(stage: BrokerStage) -> None:
    with token_provider() as thief:
        await stage.ok("PATCH", "/api/realm/r", {"config": {"url": f"{thief.url}/token"}})
        assert await stage.refusal() == (409, "realm_secret_unbound", None)
        answer = await stage.home.call("PATCH", "/api/secret/r/k", None, json={"comment": "x"})
        assert answer.status_code == 401
        body = {"comment": "not a new secret"}
        answer = await stage.home.call("PATCH", "/api/secret/r/k", PROGRAM, json=body)
        assert answer.json()["code"] == "realm_secret_invalid"
        assert not thief.calls
        await stage.ok("PATCH", "/api/secret/r/k", {"key_1": "app", "key_2": thief.secret})
        await stage.token()
        assert len(thief.calls) == 1


async def test_g3_a_provider_that_is_not_let_through_is_not_called(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, provider: TokenProvider
) -> None:
    with fresh_database(Kind.SQLITE) as url:
        async with brokered(url, signer, provider) as made:
            await made.realm()
            await made.secret()
        async with brokered(url, signer, provider, allowed="10.0.0.0/8") as made:
            answer = await made.home.call(
                "POST", "/api/realm", PROGRAM, json={"id": "x", "config": {"url": f"{provider.url}/token"}}
            )
            assert (answer.status_code, answer.json()["code"]) == (422, "target_refused")
            assert not provider.calls


async def test_a_fixed_token(stage: BrokerStage) -> None:
    await stage.ok("POST", "/api/realm", {"id": "fixed", "config": {"kind": "fixed", "token": "$key_1"}})
    await stage.secret("fixed", key_1="constant")
    said = {"token": "constant", "token_type": "Bearer", "expires_at": None, "source": "database", "expires_in": None}
    assert (await stage.get("fixed")).json() == said
    assert (await stage.get("fixed")).json() == said
    await stage.ok("PATCH", "/api/secret/fixed/k", {"key_1": "changed"})
    assert await stage.token(realm="fixed") == "changed"
    assert not stage.calls


async def test_a_backend_that_refuses_a_token_is_given_one_fresh_one(stage: BrokerStage) -> None:
    source = stage.home.domains.broker.tokens
    first = await source.token(HOME, "r", "k")
    assert source.token_nowait(HOME, "r", "k") == first
    fresh = await asyncio.gather(*(source.refused(HOME, "r", "k", first) for _ in range(5)))
    assert {each.reveal() for each in fresh} == {"token-2"}
    assert await source.refused(HOME, "r", "k", first) == Secret("token-2")  # somebody else had asked
    assert stage.calls == 2
    answer = await asyncio.gather(source.refused(HOME, "r", "k", Secret("token-2")), return_exceptions=True)
    assert getattr(answer[0], "code", None) == "flush_too_soon"


async def test_another_team_s_realm_does_not_exist(stage: BrokerStage) -> None:
    """A2; ids are of a team."""
    await stage.home.team("away")
    zoe = await stage.home.person("zoe", away=Role.ADMIN)
    assert (await stage.get(who=zoe)).json()["code"] == "no_such_realm"
    assert (await stage.get(who=zoe, team="home")).json()["code"] == "no_such_team"
    body = {"id": "r", "config": {"kind": "fixed", "token": "$key_1"}}
    assert (await stage.home.call("POST", "/api/realm", zoe, json=body)).status_code == 201
    secret = {"realm": "r", "key": "k", "key_1": "theirs"}
    assert (await stage.home.call("POST", "/api/secret", zoe, json=secret)).status_code == 201
    assert (await stage.get(who=zoe)).json()["token"] == "theirs"
    assert await stage.token() == "token-1"
    assert stage.home.domains.broker.cache.get(TeamId("nowhere"), "r", "k", 0) is None
