"""One route to several devices: in turn, the unwell left out, and one try elsewhere before a byte is sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from api_server.db.engine import Kind
from api_server.limits.limiter import Limiter, key_of
from api_server.limits.metrics import LimitMetrics
from api_server.limits.records import Defaults, Limits, Rate, SubjectKind, WhenAway
from api_server.relay.events import EventKind, SessionEvent
from api_server.routing.metrics import RoutingMetrics
from common.crypto.session_tokens import SessionTokenSigner
from common.sessions.errors import OverCapacityError
from common.sessions.interfaces import SessionState
from tests.api_server.fakes import HOME, FakeClock
from tests.api_server.gateway.stage import ok
from tests.api_server.limits.test_shared import Absent
from tests.api_server.people import PROGRAM
from tests.api_server.relay.fake_relay import FakeDevice, Service, ServiceSide
from tests.api_server.routing.routed import DEVICES, Routed, head, routed
from tests.api_server.routing.stage import route, secret
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

TOOLS = {"kind": "device", "label": "tools", "service": "web"}


def named(name: str, *, status: int = 200) -> Service:
    """A service that says its name; a question about its health is answered by `status`."""

    async def serve(side: ServiceSide) -> None:
        while True:
            asked = await side.read_head()
            healthy = ok(name.encode()) if status == 200 else b"HTTP/1.1 %d .\r\nContent-Length: 0\r\n\r\n" % status
            await side.send(healthy if b"homeport-health" in asked else ok(name.encode()))

    return serve


async def breaking(side: ServiceSide) -> None:
    """Takes a request and is gone without an answer."""
    await side.read_head()
    side.reset()


@pytest.fixture
async def here(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Routed]:
    """All three devices have the label and are online."""
    with fresh_database(Kind.SQLITE) as url:
        async with routed(url, signer, web=named("cam")) as stage:
            for name in DEVICES:
                await stage.home.call("PATCH", f"/api/devices/{name}", PROGRAM, json={"labels": ["tools"]})
                if name != "cam":
                    stage.stage.relay.online(name, web=named(name))
            yield stage


class Limited(NamedTuple):
    """Three devices with limits."""

    here: Routed
    limiter: Limiter
    clock: FakeClock
    release: asyncio.Event

    def limit(self, **limits: Any) -> None:
        self.limiter.apply(Defaults(device=Limits(**limits)), {})

    def under_way(self) -> dict[str, int]:
        """Requests of each device, as its limits have them."""
        meters = {name: self.limiter.of_device(HOME, f"id-of-{name}") for name in DEVICES}
        return {name: meter.streams for name, (meter,) in meters.items()}

    async def ask(self, times: int = 1, **request: Any) -> Counter[str]:
        """What answers: a device, or the code of a refusal."""
        answers: Counter[str] = Counter()
        for _ in range(times):
            reply = await self.here.get("/tools/x", **request)
            answers[reply.body.decode() if reply.status == 200 else str(reply["X-Homeport-Error"])] += 1
        return answers


@pytest.fixture
async def limited(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Limited]:
    """All three have the label and are online; a request for `/hold` is answered when a test says so."""
    clock, release = FakeClock(), asyncio.Event()
    limiter = Limiter(clock, LimitMetrics(CollectorRegistry()))

    def holding(name: str) -> Service:
        async def serve(side: ServiceSide) -> None:
            while True:
                if b"/hold" in await side.read_head():
                    await release.wait()
                await side.send(ok(name.encode()))

        return serve

    with fresh_database(Kind.SQLITE) as url:
        async with routed(url, signer, limiter=limiter, web=holding("cam")) as here:
            for name in DEVICES:
                await here.home.call("PATCH", f"/api/devices/{name}", PROGRAM, json={"labels": ["tools"]})
                if name != "cam":
                    here.stage.relay.online(name, web=holding(name))
            await publish(here)
            try:
                yield Limited(here, limiter, clock, release)
            finally:
                release.set()


async def test_g5_the_device_that_was_chosen_keeps_its_quota_and_others_are_asked_before_it_is_used_up(
    limited: Limited,
) -> None:
    limited.limit(requests=Rate(quota=2, window=60))
    assert await limited.ask(7) == {**dict.fromkeys(DEVICES, 2), "rate_limited": 1}
    assert limited.under_way() == dict.fromkeys(DEVICES, 0)
    limited.clock.advance(121)
    assert "rate_limited" not in await limited.ask(3)


async def test_t4_a_route_has_its_own_quota_and_limits_of_all_kinds_hold_at_once(limited: Limited) -> None:
    (route_id,) = [each["id"] for each in (await limited.here.home.call("GET", "/api/routes", PROGRAM)).json()["items"]]
    rate, own = Rate(quota=100, window=60), Rate(quota=2, window=60)
    everywhere = Limits(requests=rate, streams=9, opens_per_second=9, bytes_per_second=10_000_000)
    kinds = {kind.value: everywhere for kind in SubjectKind}
    limited.limiter.apply(Defaults(**kinds), {(SubjectKind.ROUTE, key_of(HOME, route_id)): Limits(requests=own)})
    assert (await limited.ask(5))["rate_limited"] == 3
    reply = await limited.here.get("/tools/x")
    assert (reply.status, reply["RateLimit-Policy"]) == (429, '"route";q=2;w=60')
    assert (await limited.here.get("/d/home/cam/web/x")).status == 200


async def test_g5_streams_of_the_device_that_was_chosen(limited: Limited) -> None:
    limited.limit(streams=1)
    clients = [await limited.here.stage.connect() for _ in DEVICES]
    for number, client in enumerate(clients, 1):
        await client.send(head("/tools/hold"))
        await limited.here.stage.until(lambda number=number: sum(limited.under_way().values()) == number)
    assert limited.under_way() == dict.fromkeys(DEVICES, 1)
    assert await limited.ask() == {"stream_limit": 1}
    clients[0].cut()
    await limited.here.stage.until(lambda: sum(limited.under_way().values()) == 2)
    ((free, _),) = [(name, number) for name, number in limited.under_way().items() if number == 0]
    assert await limited.ask(3) == {free: 3}
    limited.release.set()
    for client in clients[1:]:
        assert (await client.reply()).status == 200
    assert limited.under_way() == dict.fromkeys(DEVICES, 0)


async def test_g5_opens_to_the_device_that_was_chosen(limited: Limited) -> None:
    limited.limit(opens_per_second=1)
    clients = [await limited.here.stage.connect() for _ in range(4)]
    for client in clients[:3]:
        await client.send(head("/tools/hold"))
        await limited.here.stage.until(lambda: True)
    await limited.here.stage.until(lambda: sum(limited.under_way().values()) == 3)
    assert await limited.ask() == {"too_many_opens": 1}
    limited.clock.advance(1)
    assert sum((await limited.ask()).values()) == 1


@pytest.mark.parametrize("how", ["at once", "after waiting"])
async def test_g5_sizes_and_pace_of_the_device_that_was_chosen(limited: Limited, how: str) -> None:
    limited.limit(max_body_bytes=10, max_header_bytes=1000, bytes_per_second=1_000_000)
    client = await limited.here.stage.connect()
    if how == "at once":
        await limited.ask(3, client=client)
    await client.send(head("/tools/x", "Content-Length: 11\r\n", method="POST") + "0123456789a")
    assert (await client.reply()).status == 413
    client = await limited.here.stage.connect()
    await client.send(head("/tools/x", "Transfer-Encoding: chunked\r\n", method="POST"))
    await client.send("6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n")
    assert (await client.reply()).status == 413
    assert await limited.ask(headers=f"X-Wide: {'x' * 1000}\r\n") == {"head_too_large": 1}
    assert limited.under_way() == dict.fromkeys(DEVICES, 0)


async def test_g5_the_shared_counter_is_waited_for_with_a_stream_in_hand(
    fresh_database: FreshDatabase, signer: SessionTokenSigner
) -> None:
    counter = Absent()
    counter.there = True
    limiter = Limiter(FakeClock(), LimitMetrics(CollectorRegistry()), counter)
    limiter.apply(Defaults(device=Limits(streams=5, requests=Rate(quota=3, window=60, when_away=WhenAway.CLOSED))), {})
    with fresh_database(Kind.SQLITE) as url:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(limiter.run())
            async with routed(url, signer, limiter=limiter, web=named("cam")) as here:
                await here.home.call("PATCH", "/api/devices/cam", PROGRAM, json={"labels": ["tools"]})
                await publish(here)
                assert await asked(here, 20) == {"cam": 20}
                counter.there = False
                client = await here.stage.connect()
                while (reply := await here.get("/tools/x", client=client)).status == 200:
                    pass
                assert (reply.status, reply["X-Homeport-Error"]) == (503, "limits_unavailable")
                (meter,) = limiter.of_device(HOME, "id-of-cam")
                assert meter.streams == 0
            running.cancel()


async def publish(here: Routed, **more: Any) -> None:
    await route(here.home, "tools", "/tools", target=TOOLS, **more)
    assert await here.table.catch_up()


async def asked(here: Routed, times: int = 6) -> Counter[str]:
    """Who answers so many requests."""
    client = await here.stage.connect()
    answers: Counter[str] = Counter()
    for _ in range(times):
        reply = await here.get("/tools/x", client=client)
        assert reply.status == 200, reply
        answers[reply.body.decode()] += 1
    return answers


def device(here: Routed, name: str) -> FakeDevice:
    (found,) = [each for each in here.stage.relay.devices if each.name == name]
    return found


def tell(
    here: Routed, kind: EventKind, name: str, *, state: SessionState = SessionState.HEALTHY, **health: str
) -> None:
    """What the relay says of a device."""
    summary = device(here, name).summary(state)
    if health:
        summary = type(summary)(
            **{field: getattr(summary, field) for field in summary.__struct_fields__} | {"services": health}
        )
    here.presence.session_changed(SessionEvent(id="1", type=kind, time=1.0, team=summary.team, session=summary))


async def test_they_take_turns(here: Routed) -> None:
    await publish(here)
    assert await asked(here, 9) == dict.fromkeys(DEVICES, 3)
    assert len(here.stage.relay.opens) == 3, "idle streams are used again"


async def test_one_without_a_tunnel_is_passed_over(here: Routed) -> None:
    await publish(here)
    here.stage.relay.offline(device(here, "mill"))
    assert await asked(here) == {"cam": 3, "saw": 3}


async def test_what_the_relay_says_counts_at_once(here: Routed) -> None:
    await publish(here)
    await asked(here)
    tell(here, EventKind.OFFLINE, "mill")
    assert await asked(here) == {"cam": 3, "saw": 3}
    tell(here, EventKind.ONLINE, "mill")
    tell(here, EventKind.UPDATED, "saw", web="unhealthy")
    assert await asked(here) == {"cam": 3, "mill": 3}
    tell(here, EventKind.UPDATED, "saw", web="healthy", ssh="unhealthy")
    tell(here, EventKind.UPDATED, "cam", state=SessionState.DRAINING)
    assert await asked(here) == {"saw": 3, "mill": 3}
    here.presence.events_lost()
    assert set(await asked(here)) == set(DEVICES)


async def test_one_that_refuses_is_tried_once_elsewhere_and_put_aside(here: Routed) -> None:
    del device(here, "mill").services["web"]
    await publish(here)
    assert await asked(here) == {"cam": 3, "saw": 3}
    refused = len(here.stage.relay.opens) - 2
    assert refused == 1
    here.stage.clock.advance(6)
    here.stage.relay.online("mill", web=named("mill"))
    here.stage.dialer.directory.clear()
    assert set(await asked(here)) == set(DEVICES)


async def test_nobody_waits_for_a_third(here: Routed) -> None:
    here.stage.relay.refusal = OverCapacityError("full", retry_after=1.0)
    await publish(here)
    reply = await here.get("/tools")
    assert (reply.status, reply.code) == (503, "over_capacity")
    assert len(here.stage.relay.opens) == 2


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_request_of_which_a_byte_has_arrived_is_asked_of_nobody_else(here: Routed, method: str) -> None:
    for name in DEVICES:
        device(here, name).services["web"] = breaking
    await publish(here)
    client = await here.stage.connect()
    await client.send(head("/tools", "Content-Length: 2\r\n" if method == "POST" else "", method=method))
    if method == "POST":
        await client.send("hi")
    assert (await client.reply()).code == "stream_reset"
    assert len(here.stage.relay.opens) == 1


async def test_a_stale_stream_is_replaced_at_the_same_device(here: Routed) -> None:
    """RFC 9110 section 9.2.2: what may be repeated is, and there alone."""
    once: Counter[str] = Counter()

    def closing(name: str) -> Service:
        async def serve(side: ServiceSide) -> None:
            await side.read_head()
            once[name] += 1
            await side.send(ok(name.encode()))
            await side.read_head()
            side.reset()

        return serve

    for name in DEVICES:
        device(here, name).services["web"] = closing(name)
    await publish(here)
    answers = await asked(here, 6)
    assert answers == dict.fromkeys(DEVICES, 2)
    assert len(here.stage.relay.opens) == 6


async def test_without_a_device_that_is_well_it_is_said_so(here: Routed) -> None:
    await publish(here)
    for name in DEVICES:
        here.stage.relay.offline(device(here, name))
    reply = await here.get("/tools")
    assert (reply.status, reply.code) == (503, "no_healthy_device")
    assert reply["Retry-After"] is not None


async def test_the_unwell_are_found_by_asking_and_left_out_until_they_are_well(here: Routed) -> None:
    device(here, "mill").services["web"] = named("mill", status=503)
    await publish(here, health={"path": "/up", "interval": 10, "threshold": 2})
    await here.checks.check_due()
    assert await asked(here) == {"cam": 3, "saw": 3}
    registry = CollectorRegistry()
    RoutingMetrics(here.table, here.checks, registry)
    assert registry.get_sample_value("homeport_routes") == 1
    assert registry.get_sample_value("homeport_route_devices_unwell") == 1
    device(here, "mill").services["web"] = named("mill")
    for _ in range(2):  # one good answer may be luck
        assert await asked(here) == {"cam": 3, "saw": 3}
        await here.checks.check_due()  # nobody is due
        here.stage.clock.advance(10)
        await here.checks.check_due()
    assert await asked(here, 9) == dict.fromkeys(DEVICES, 3)
    device(here, "saw").services["web"] = named("saw", status=500)
    here.stage.clock.advance(10)
    await here.checks.check_due()
    assert set(await asked(here)) == set(DEVICES)  # nor is one bad answer the end
    here.stage.clock.advance(10)
    await here.checks.check_due()
    assert await asked(here) == {"cam": 3, "mill": 3}


async def test_what_is_thought_of_them_outlives_a_change_of_the_route(here: Routed) -> None:
    device(here, "mill").services["web"] = named("mill", status=503)
    await publish(here, health={"path": "/up"})
    await here.checks.check_due()
    await here.home.call("PATCH", "/api/routes/tools", PROGRAM, json={"tags": ["x"]})
    await here.table.catch_up()
    assert await asked(here) == {"cam": 3, "saw": 3}
    await here.home.call("PATCH", "/api/routes/tools", PROGRAM, json={"health": None})
    await here.table.catch_up()
    assert set(await asked(here)) == set(DEVICES)


async def test_the_question_shows_the_routes_credential(here: Routed) -> None:
    questions: list[bytes] = []

    async def serve(side: ServiceSide) -> None:
        while True:
            asked_for = await side.read_head()
            questions.append(asked_for)
            allowed = b"Authorization: Bearer t0ken\r\n" in asked_for
            await side.send(ok() if allowed else b"HTTP/1.1 401 .\r\nContent-Length: 0\r\n\r\n")

    device(here, "cam").services["web"] = serve
    for name in ("mill", "saw"):
        here.stage.relay.offline(device(here, name))
    await secret(here.home, destination="label:tools/web", value="t0ken")
    await publish(here, auth={"kind": "bearer", "secret": "key"}, health={"path": "/up?deep=1"})
    await here.checks.check_due()
    assert questions[0].startswith(b"GET /up?deep=1 HTTP/1.1\r\n")
    assert (await here.get("/tools")).status == 200


async def test_a_relay_that_is_away_says_nothing_about_devices(here: Routed) -> None:
    await publish(here, health={"path": "/up", "threshold": 1})
    await here.checks.check_due()
    here.stage.relay.answers["/internal/sessions"] = b"HTTP/1.1 500 .\r\nContent-Length: 0\r\n\r\n"
    here.stage.dialer.directory.clear()
    here.stage.clock.advance(10)
    await here.checks.check_due()
    here.stage.relay.answers.clear()
    assert set(await asked(here)) == set(DEVICES)


async def test_questions_go_on_by_themselves(here: Routed) -> None:
    device(here, "mill").services["web"] = named("mill", status=503)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(here.checks.run())
        await publish(here, health={"path": "/up"})
        await here.stage.relay.wait_opens(3)
        running.cancel()
    assert {each["homeport-service"] for each in here.stage.relay.opens} == {"web"}
