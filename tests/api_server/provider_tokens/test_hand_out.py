"""Access tokens that are handed out, and refreshed before: whatever a provider does, and whoever asks at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.tables import custody_records
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.outbound.http import OutboundHttp
from api_server.provider_tokens.pace import Pace
from api_server.provider_tokens.tables import refresh_attempts
from api_server.teams.roles import Role
from common.crypto.envelope import SealContext
from common.crypto.session_tokens import SessionTokenSigner
from common.secret import Secret
from tests.api_server.people import PROGRAM, Person
from tests.api_server.provider_tokens.double import CANARY, Double
from tests.api_server.provider_tokens.flow import PATH, SECRET, Flow, staged
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture
async def flow(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, double: Double, outbound: OutboundHttp
) -> AsyncIterator[Flow]:
    with fresh_database(Kind.SQLITE) as url:
        async with (
            Database.connect(url) as database,
            staged(database, signer, double, outbound, pace=Pace(burst=500, interval=1)) as running,
        ):
            yield running


async def connected(flow: Flow, provider: str = "gitlab", role: Role = Role.DEVELOPER) -> Person:
    person = await flow.home.person("ann", home=role)
    await flow.connect(person, provider)
    return person


async def token(flow: Flow, person: Person, provider: str = "gitlab") -> str:
    answer = await flow.hand_out(person, provider)
    assert answer.status_code == 200, answer.text
    handed: str = answer.json()["access_token"]
    return handed


async def refused(flow: Flow, person: Person) -> tuple[int, str]:
    answer = await flow.hand_out(person)
    assert answer.status_code >= 400, answer.text
    assert CANARY not in answer.text
    return answer.status_code, answer.json()["code"]


async def test_one_that_lasts_is_handed_out_as_it_is(flow: Flow) -> None:
    ann = await connected(flow)
    first = await token(flow, ann)
    flow.home.clock.advance(7200 - 601)
    assert await token(flow, ann) == first
    assert not flow.double.shown


async def test_b2_one_within_the_margin_is_refreshed(flow: Flow) -> None:
    ann = await connected(flow)
    first = await token(flow, ann)
    flow.home.clock.advance(7200 - 599)
    second = await token(flow, ann)
    assert second != first
    assert await token(flow, ann) == second
    assert list(flow.double.shown.values()) == [1]
    assert (await flow.show(ann))["access_token_expires_at"] == flow.home.clock.wall() + 7200


@pytest.mark.parametrize("life", [60, 300, 3600])
async def test_b2_the_margin_is_a_fifth_of_the_life_at_most(flow: Flow, life: int) -> None:
    """A margin of ten minutes on a token of one minute would refresh it at each call."""
    flow.double.expires_in = life
    ann = await connected(flow)
    first = await token(flow, ann)
    margin = min(600, life / 5)
    flow.home.clock.advance(life - margin - 1)
    assert await token(flow, ann) == first
    flow.home.clock.advance(2)
    assert await token(flow, ann) != first


async def test_one_without_an_end_is_never_refreshed(flow: Flow) -> None:
    flow.double.expires_in = None
    ann = await connected(flow)
    first = await token(flow, ann)
    flow.home.clock.advance(10 * 365 * 86400)
    assert await token(flow, ann) == first
    assert (await flow.show(ann))["access_token_expires_at"] is None


async def test_refresh_tokens_rotate_for_as_long_as_one_likes(flow: Flow) -> None:
    ann = await connected(flow)
    seen = set()
    for _ in range(5):
        flow.home.clock.advance(7200)
        seen.add(await token(flow, ann))
    assert len(seen) == 5
    assert list(flow.double.shown.values()) == [1] * 5


async def test_a_provider_that_does_not_rotate(flow: Flow) -> None:
    flow.double.rotates = False
    ann = await connected(flow)
    for _ in range(3):
        flow.home.clock.advance(7200)
        await token(flow, ann)
    assert list(flow.double.shown.values()) == [3]


async def test_b1_whoever_asks_at_once_there_is_one_refresh(flow: Flow) -> None:
    ann = await connected(flow)
    flow.home.clock.advance(7200)
    flow.double.delay = 0.1
    handed = await asyncio.gather(*(token(flow, ann) for _ in range(60)))
    assert len(set(handed)) == 1
    assert list(flow.double.shown.values()) == [1]


async def test_a_refresh_goes_on_when_whoever_asked_has_gone(flow: Flow) -> None:
    """The provider's answer is the only one there will be."""
    ann = await connected(flow)
    flow.home.clock.advance(7200)
    flow.double.mode = "hang"
    flow.double.arrived.clear()
    asking = asyncio.ensure_future(flow.hand_out(ann))
    await flow.double.arrived.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    flow.double.go_on.set()
    await flow.home.connections.refresher.aclose()
    assert (await flow.show(ann))["access_token_expires_at"] == flow.home.clock.wall() + 7200
    assert list(flow.double.shown.values()) == [1]


async def test_no_transaction_is_open_while_the_provider_is_asked(flow: Flow) -> None:
    """SQLite has one writer: a lock that is held across the request would keep everybody waiting."""
    ann = await connected(flow)
    flow.home.clock.advance(7200)
    flow.double.mode = "hang"
    flow.double.arrived.clear()
    asking = asyncio.ensure_future(token(flow, ann))
    await flow.double.arrived.wait()
    bob = await flow.home.person("bob", home=Role.DEVELOPER)
    flow.double.mode = "well"
    await flow.connect(bob)
    assert await token(flow, bob)
    assert (await flow.show(ann))["state"] == "active"
    flow.double.go_on.set()
    await asking


# What goes wrong


@pytest.mark.parametrize("mode", ["cut", "huge", "html", "error_500", "error_429", "invalid_client"])
async def test_b4_what_is_no_refusal_of_the_grant_leaves_it(flow: Flow, mode: str) -> None:
    """What is left of the access token is handed out; then the error is, and the row stays."""
    ann = await connected(flow)
    first = await token(flow, ann)
    flow.home.clock.advance(7200 - 500)
    flow.double.mode = mode
    assert await token(flow, ann) == first
    flow.home.clock.advance(471)
    code = "provider_refuses_client" if mode == "invalid_client" else "provider_unavailable"
    status = 502 if mode == "invalid_client" else 503
    assert await refused(flow, ann) == (status, code)
    shown = await flow.show(ann)
    assert shown["state"] == ("active" if mode in ("error_429", "invalid_client") else "unknown")
    assert shown["refreshable"]


async def test_b3_a_provider_in_trouble_is_left_alone_for_a_while(flow: Flow) -> None:
    ann = await connected(flow)
    flow.home.clock.advance(7200)
    flow.double.mode = "error_429"
    for _ in range(5):
        answer = await flow.hand_out(ann)
        assert answer.json()["code"] == "provider_unavailable"
        assert answer.headers["Retry-After"] == "9"
    assert sum(flow.double.shown.values()) == 1
    flow.home.clock.advance(9.5)
    flow.double.mode = "well"
    await token(flow, ann)
    assert list(flow.double.shown.values()) == [2]
    assert (await flow.show(ann))["problem"] is None


async def test_a_hung_provider_is_given_up(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, double: Double, outbound: OutboundHttp
) -> None:
    with fresh_database(Kind.SQLITE) as url:
        async with (
            Database.connect(url) as database,
            staged(database, signer, double, outbound, provider_timeout=0.2) as flow,
        ):
            ann = await connected(flow)
            flow.home.clock.advance(7200)
            double.mode = "hang"
            assert await refused(flow, ann) == (503, "provider_unavailable")
            assert (await flow.show(ann))["problem"] == "refresh_outcome_unknown"


@pytest.mark.parametrize("mode", ["invalid_grant", "github_error"])
async def test_b4_invalid_grant_needs_a_new_connection_and_deletes_nothing(flow: Flow, mode: str) -> None:
    ann = await connected(flow)
    flow.home.clock.advance(7200)
    flow.double.mode = mode
    assert await refused(flow, ann) == (409, "needs_reconnect")
    reason = {"invalid_grant": "invalid_grant", "github_error": "bad_refresh_token"}[mode]
    shown = await flow.show(ann)
    assert (shown["state"], shown["problem"]) == ("needs_reconnect", reason)
    assert flow.home.audit.lines[-1].action == "provider_token.needs_reconnect"
    assert flow.home.audit.lines[-1].actor.kind == "system"
    change = flow.home.changes.announced[-1]
    assert (change.event, change.team) == ("provider_token.needs_reconnect", "home")
    assert change.data == {"provider": "gitlab", "user": ann.id, "reason": reason}
    # It is not asked again, until the person connects.
    asked = len(flow.double.asked)
    assert await refused(flow, ann) == (409, "needs_reconnect")
    assert len(flow.double.asked) == asked
    flow.double.mode = "well"
    await flow.connect(ann)
    assert await token(flow, ann)
    assert (await flow.show(ann))["state"] == "active"


async def test_b4_a_refusal_counts_only_if_the_store_still_has_what_was_refused(flow: Flow) -> None:
    """The person connects anew while the refresh of the old grant is under way, which is then refused."""
    ann = await connected(flow)
    flow.home.clock.advance(7200)
    flow.double.mode = "hang"
    flow.double.arrived.clear()
    asking = asyncio.ensure_future(token(flow, ann))
    await flow.double.arrived.wait()
    flow.double.invalidate()
    flow.double.mode = "well"
    await flow.connect(ann)
    flow.double.go_on.set()
    handed = await asking
    assert handed == await token(flow, ann)
    assert (await flow.show(ann))["state"] == "active"


async def test_what_is_given_for_an_old_grant_does_not_replace_a_new_one(flow: Flow) -> None:
    ann = await connected(flow)
    flow.home.clock.advance(7200)
    flow.double.mode = "hang"
    flow.double.arrived.clear()
    asking = asyncio.ensure_future(token(flow, ann))
    await flow.double.arrived.wait()
    flow.double.mode = "well"
    await flow.connect(ann)
    connected_anew = await token(flow, ann)
    flow.double.go_on.set()
    assert await asking == connected_anew


async def test_a_refresh_token_that_has_run_out_is_not_sent(flow: Flow) -> None:
    flow.double.refresh_expires_in = 10_000
    ann = await connected(flow)
    flow.home.clock.advance(10_000)
    assert await refused(flow, ann) == (409, "needs_reconnect")
    assert not flow.double.shown
    assert (await flow.show(ann))["problem"] == "refresh_token_expired"


# Outcomes that nobody knows


async def test_b5_an_answer_that_was_cut_leaves_a_state_that_says_so(flow: Flow) -> None:
    """The provider has rotated, and nobody has its answer. The old refresh token is not shown again while the access
    token is good for something; then it is, and what the provider says is the outcome.
    """
    ann = await connected(flow)
    first = await token(flow, ann)
    flow.home.clock.advance(7200 - 500)
    flow.double.mode = "swallow"
    assert await token(flow, ann) == first
    shown = await flow.show(ann)
    assert (shown["state"], shown["problem"]) == ("unknown", "refresh_outcome_unknown")
    flow.double.mode = "well"
    flow.home.clock.advance(400)
    assert await token(flow, ann) == first
    assert list(flow.double.shown.values()) == [1]
    flow.home.clock.advance(100)
    assert await refused(flow, ann) == (409, "needs_reconnect")
    shown = await flow.show(ann)
    assert (shown["state"], shown["problem"]) == ("needs_reconnect", "refresh_outcome_lost")


async def test_b5_one_that_had_not_arrived_is_made_up_for(flow: Flow) -> None:
    ann = await connected(flow)
    flow.home.clock.advance(7200)
    flow.double.mode = "error_500"
    assert await refused(flow, ann) == (503, "provider_unavailable")
    assert (await flow.show(ann))["state"] == "unknown"
    flow.double.mode = "well"
    flow.home.clock.advance(8)
    assert await token(flow, ann)
    assert (await flow.show(ann))["state"] == "active"


# Taking back


async def test_disconnect_revokes_and_forgets(flow: Flow) -> None:
    ann = await connected(flow)
    answer = await flow.home.call("DELETE", f"{PATH}/gitlab", ann)
    assert (answer.status_code, answer.json()) == (200, {"revoked": True, "problem": None})
    assert [each.partition("-")[2].partition("-")[0] for each in flow.double.revoked] == ["refresh", "access"]
    assert await refused(flow, ann) == (404, "not_connected")
    assert flow.home.audit.lines[-1].action == "provider_token.disconnected"
    assert flow.home.changes.announced[-1].event == "provider_token.disconnected"
    again = await flow.home.call("DELETE", f"{PATH}/gitlab", ann)
    assert (again.status_code, again.json()["code"]) == (404, "not_connected")
    await flow.connect(ann)
    assert await token(flow, ann)


@pytest.mark.parametrize(
    ("provider", "problem"),
    [("gitlab", "provider_unavailable"), ("github", "provider_unavailable"), ("bitbucket", "no_revocation")],
)
async def test_a_provider_that_is_away_keeps_nobody_from_disconnecting(flow: Flow, provider: str, problem: str) -> None:
    ann = await connected(flow, provider)
    flow.double.revocation = 503
    answer = await flow.home.call("DELETE", f"{PATH}/{provider}", ann)
    assert (answer.status_code, answer.json()) == (200, {"revoked": False, "problem": problem})
    assert (await flow.hand_out(ann, provider)).status_code == 404
    after = flow.home.audit.lines[-1].after
    assert after == {"revoked_at_provider": False, "problem": problem}


async def test_a_disconnect_waits_for_the_refresh_that_is_under_way(flow: Flow) -> None:
    """So that what was given last is taken back, and does not live on."""
    ann = await connected(flow)
    flow.home.clock.advance(7200)
    flow.double.mode = "hang"
    flow.double.arrived.clear()
    asking = asyncio.ensure_future(flow.hand_out(ann))
    await flow.double.arrived.wait()
    leaving = asyncio.ensure_future(flow.home.call("DELETE", f"{PATH}/gitlab", ann))
    flow.double.go_on.set()
    await asking
    assert (await leaving).json() == {"revoked": True, "problem": None}
    assert not flow.double.current


# Who may


async def test_t2_a_program_gets_nothing_without_somebody_behind_it(flow: Flow) -> None:
    await connected(flow)
    for method, path in (("POST", f"{PATH}/gitlab/access-token"), ("GET", PATH), ("DELETE", f"{PATH}/gitlab")):
        answer = await flow.home.call(method, path, PROGRAM)
        assert (answer.status_code, answer.json()["code"]) == (403, "nobody_behind_token")


async def program(flow: Flow, maker: Person, *scopes: str) -> Person:
    """A program with a token that somebody has made."""
    body = {"team": "home", "name": "builder", "scopes": list(scopes)}
    made = await flow.home.call("POST", "/api/api-tokens", maker, json=body)
    assert made.status_code == 201, made.text
    return Person(made.json()["id"], "", Secret(made.json()["token"]))


async def test_t2_a_program_has_what_the_person_who_made_its_token_has_connected(flow: Flow) -> None:
    ann = await connected(flow)
    bob = await flow.home.person("bob", home=Role.ADMIN)
    builder = await program(flow, ann, "provider_tokens:use")
    assert await token(flow, builder) == await token(flow, ann)
    line = flow.home.audit.lines[-2]
    assert (line.action, line.actor.kind, line.actor.id) == ("provider_token.handed_out", "token", builder.id)
    assert line.after is not None
    assert line.after["user"] == ann.id
    assert (await flow.hand_out(await program(flow, bob, "provider_tokens:use"))).json()["code"] == "not_connected"
    reader = await program(flow, ann, "provider_tokens:read", "devices:read")
    assert [each["provider"] for each in (await flow.home.call("GET", PATH, reader)).json()["items"]] == ["gitlab"]
    assert (await flow.hand_out(reader)).json()["code"] == "forbidden"


async def test_t2_a_program_loses_it_with_its_maker(flow: Flow) -> None:
    """Met with the rights of the person at use: who has left the team has nothing for a program to take."""
    await flow.home.person("boss", home=Role.ADMIN)
    ann = await connected(flow)
    builder = await program(flow, ann, "provider_tokens:use")
    assert await token(flow, builder)
    gone = await flow.home.call("PUT", f"/api/teams/home/members/{ann.id}", PROGRAM, json={"role": "VIEWER"})
    assert gone.status_code == 200, gone.text
    assert (await flow.hand_out(builder)).json()["code"] == "forbidden"


async def test_a_program_of_the_administration_acts_for_nobody(flow: Flow) -> None:
    await connected(flow)
    builder = await program(flow, PROGRAM, "provider_tokens:use")
    assert (await flow.hand_out(builder)).json()["code"] == "nobody_behind_token"


async def test_a_viewer_sees_and_takes_nothing(flow: Flow) -> None:
    vic = await flow.home.person("vic", home=Role.VIEWER)
    assert (await flow.home.call("GET", PATH, vic)).status_code == 200
    assert (await flow.hand_out(vic)).json()["code"] == "forbidden"


async def test_too_many_hand_outs(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, double: Double, outbound: OutboundHttp
) -> None:
    with fresh_database(Kind.SQLITE) as url:
        async with (
            Database.connect(url) as database,
            staged(database, signer, double, outbound, pace=Pace(burst=3, interval=10)) as flow,
        ):
            ann = await connected(flow)
            await flow.connect(ann, "github")
            for _ in range(3):
                await token(flow, ann)
            answer = await flow.hand_out(ann)
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_hand_outs")
            assert answer.headers["Retry-After"] == "10"
            await token(flow, ann, "github")
            flow.home.clock.advance(10)
            await token(flow, ann)


# At rest


async def test_c1_a_grant_that_is_moved_to_another_user_does_not_open(flow: Flow) -> None:
    ann = await connected(flow)
    bob = await flow.home.person("bob", home=Role.DEVELOPER)
    await flow.connect(bob)
    flow.home.clock.advance(0)
    mine, theirs = custody_records.c.user_id == ann.id, custody_records.c.user_id == bob.id

    async def move(tx: AsyncConnection) -> None:
        sealed = (await tx.execute(select(custody_records.c.sealed).where(mine))).scalar_one()
        await tx.execute(update(custody_records).where(theirs).values(sealed=sealed))

    await flow.home.database.write(move)
    assert (await flow.hand_out(bob)).json()["code"] == "seal_broken"
    assert await token(flow, ann)


async def test_c1_an_answer_that_is_moved_to_another_user_does_not_open(flow: Flow) -> None:
    """What is written down between the answer and the record is bound as the record is."""
    ann = await connected(flow)
    bob = await flow.home.person("bob", home=Role.DEVELOPER)
    await flow.connect(bob)
    flow.home.clock.advance(7200)
    flow.double.mode = "error_500"
    for person in (ann, bob):
        await flow.hand_out(person)
    flow.home.clock.advance(10)

    async def plant(tx: AsyncConnection) -> None:
        envelope = flow.home.domains.envelope
        record = (await tx.execute(select(custody_records).where(custody_records.c.user_id == ann.id))).one()
        context = SealContext(
            kind="refresh_answer", team="home", owner=ann.id, name="provider_token:gitlab", id="rfa_1", version=1
        )
        assert record.version == 1
        sealed = envelope.seal(b'{"access_token": "x"}', context)
        await tx.execute(update(refresh_attempts).values(answer=sealed))

    await flow.home.database.write(plant)
    assert (await flow.hand_out(bob)).json()["code"] == "seal_broken"


async def test_c8_tokens_appear_nowhere_but_sealed(flow: Flow, capfd: pytest.CaptureFixture[str]) -> None:
    """Database, log, errors, audit log and events, through everything that can happen to a token."""
    said = []
    ann = await connected(flow)
    await token(flow, ann)
    for mode in ("error_500", "cut", "huge", "swallow", "well", "invalid_grant"):
        flow.double.mode = mode
        flow.home.clock.advance(7200)
        said.append((await flow.hand_out(ann)).text if mode != "well" else "")
        said.append((await flow.home.call("GET", PATH, ann)).text)
    flow.double.mode = "well"
    await flow.connect(ann)
    said.append((await flow.home.call("DELETE", f"{PATH}/gitlab", ann)).text)
    await flow.connect(ann, "github")
    said += [repr(flow.home.audit.lines), repr(flow.home.changes.announced)]
    said += [(await flow.home.call("GET", "/metrics", PROGRAM)).text]
    async with flow.home.database.administer() as connection:
        raw = (await connection.exec_driver_sql("SELECT sealed FROM custody_records")).all()
        dump = [str((await connection.exec_driver_sql(f"SELECT * FROM {name}")).all()) for name in _TABLES]
        await connection.rollback()
    assert any(row[0] for row in raw)
    captured = capfd.readouterr()
    for text in (*said, *dump, captured.out, captured.err):
        assert CANARY not in text
        assert SECRET.reveal() not in text


_TABLES = ("custody_records", "refresh_attempts", "audit_log", "once", "leases", "generations")
