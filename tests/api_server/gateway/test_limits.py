"""The limits at the gateway (T4, G5): who is refused is told by a stable code and when to come back, what is shaped
waits and is not cut, and what was counted as under way is not when it is over.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from api_server.auth.interfaces import Identity
from api_server.gateway.governor import Governor
from api_server.limits.limiter import Limiter
from api_server.limits.metrics import LimitMetrics
from api_server.limits.records import Defaults, Limits, Rate, WhenAway
from common.ids import TeamId
from tests.api_server.fakes import FakeClock
from tests.api_server.gateway.stage import BEARER, Stage, answering, ok, request_head
from tests.api_server.limits.test_shared import Absent, counting
from tests.api_server.relay.fake_relay import ServiceSide
from tests.stack.redis import redis

pytestmark = pytest.mark.anyio


@dataclass
class Counted:
    """What was used."""

    calls: list[tuple[str, str, int, int]] = field(default_factory=list)
    bytes_in: int = 0
    bytes_out: int = 0

    def count(
        self,
        team: TeamId,
        identity: Identity,
        route: str,
        status: int,
        requests: int,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        self.calls.append((f"{team}:{identity.id}", route, status, requests))
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out


class Limited:
    """A stage with limits."""

    def __init__(self, defaults: Defaults, *, clock: FakeClock | None = None) -> None:
        self.clock = clock if clock is not None else FakeClock()
        self.usage = Counted()
        self.limiter = Limiter(self.clock, LimitMetrics(CollectorRegistry()))
        self.limiter.apply(defaults, {})
        self.governor = Governor(self.limiter, self.usage)

    def under_way(self) -> list[int]:
        """Streams of the subjects of a request."""
        meters = self.limiter.subjects(team="home", token="caller", route=None, address="127.0.0.1", device="cam")
        return [meter.streams for meter in meters]


class RealTime(FakeClock):
    """A clock that goes."""

    def monotonic(self) -> float:
        return time.monotonic()


async def test_t4_a_quota_that_is_used_up_is_429_with_its_fields() -> None:
    limited = Limited(Defaults(token=Limits(requests=Rate(quota=2, window=60))))
    async with Stage(governor=limited.governor, clock=limited.clock, web=answering(ok())) as stage:
        client = await stage.connect()
        for _ in range(2):
            reply = await client.get("/")
            assert reply.status == 200
            assert reply["RateLimit"] is None  # what the service says about its own limits is not talked over
        refused = await client.get("/")
        assert refused.status == 429
        assert refused["X-Homeport-Error"] == "rate_limited"
        assert refused["RateLimit-Policy"] == '"token";q=2;w=60'
        assert (refused["RateLimit"] or "").startswith('"token";r=0;t=')
        assert 0 < int(refused["Retry-After"] or 0) <= 120
        assert refused.problem["violated-policies"] == ["token"]
        stage.advance(121)
        client = await stage.connect()
        assert (await client.get("/")).status == 200


@pytest.mark.parametrize("kind", ["team", "address", "device"])
async def test_t4_other_subjects(kind: str) -> None:
    limited = Limited(Defaults(**{kind: Limits(requests=Rate(quota=1, window=60))}))
    async with Stage(governor=limited.governor, clock=limited.clock, web=answering(ok())) as stage:
        client = await stage.connect()
        assert [(await client.get("/")).status for _ in range(2)] == [200, 429]


async def test_g5_a_device_has_one_limit_by_whichever_of_its_names() -> None:
    limited = Limited(Defaults(device=Limits(requests=Rate(quota=4, window=60))))
    stages: list[Stage] = []
    governor = Governor(limited.limiter, None, lambda team, device: stages[0].dialer.directory.id_of(team, device))
    async with Stage(governor=governor, clock=limited.clock, web=answering(ok())) as stage:
        stages.append(stage)
        client = await stage.connect()
        names = ["cam", "id-of-cam"]
        for name in names:  # counted by what it is called until it has been found
            assert (await client.get("/", device=name)).status == 200
        answers = [(await client.get("/", device=name)).status for name in names * 3]
        assert answers == [200, 200, 200, 429, 429, 429]


async def test_t4_the_shared_counter_is_waited_for_and_its_absence_is_what_the_limit_says() -> None:
    counter = Absent()
    counter.there = True
    clock = FakeClock()
    limiter = Limiter(clock, LimitMetrics(CollectorRegistry()), counter)
    rate = Rate(quota=5, window=60, when_away=WhenAway.CLOSED)
    limiter.apply(Defaults(token=Limits(requests=rate)), {})
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(limiter.run())
        async with Stage(governor=Governor(limiter), clock=clock, web=answering(ok())) as stage:
            client = await stage.connect()
            assert (await client.get("/")).status == 200
            body = await client.request("POST", "/", b"x" * 100_000)
            assert body.status == 200
            counter.there = False
            refused = await client.get("/")
            assert (refused.status, refused["X-Homeport-Error"]) == (503, "limits_unavailable")
            assert refused["Retry-After"] == "1"
        running.cancel()


async def test_g5_two_gateways_share_what_is_under_way() -> None:
    """Each has its own limiter, as two processes have; they share a server of the Redis protocol."""
    release = asyncio.Event()

    async def hold(side: ServiceSide) -> None:
        while True:
            await side.read_head()
            await release.wait()
            await side.send(ok())

    with redis() as server:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            stack.callback(release.set)
            stages, teams = [], []
            for _ in range(2):
                limiter = Limiter(RealTime(), LimitMetrics(CollectorRegistry()), counting(server))
                limiter.apply(Defaults(team=Limits(streams=2, opens_per_second=1000)), {})
                stack.callback(tasks.create_task(limiter.run()).cancel)
                teams += limiter.subjects(team="home", token=None, route=None, address="", device=None)
                stages.append(await stack.enter_async_context(Stage(governor=Governor(limiter), web=hold)))
            first = [await stage.connect() for stage in stages]
            for client in first:
                await client.send(request_head())
            await stages[0].until(lambda: [team.streams for team in teams] == [1, 1])
            second = [await stage.connect() for stage in stages]
            for client in second:
                refused = await client.get("/")
                assert (refused.status, refused["X-Homeport-Error"]) == (429, "stream_limit")
            release.set()
            for client in first:
                assert (await client.reply()).status == 200
            async with asyncio.timeout(30):
                while (await second[0].get("/")).status != 200:
                    pass


async def test_g5_streams_at_a_time_and_each_is_counted_off_however_it_ends() -> None:
    limited = Limited(Defaults(device=Limits(streams=1)))
    release = asyncio.Event()

    async def hold(side: ServiceSide) -> None:
        await side.read_head()
        await release.wait()
        await side.send(ok())

    async with Stage(governor=limited.governor, clock=limited.clock, web=hold) as stage:
        first = await stage.connect()
        await first.send(request_head())
        await stage.until(lambda: limited.under_way() == [1])
        second = await stage.connect()
        refused = await second.get("/")
        assert (refused.status, refused["X-Homeport-Error"]) == (429, "stream_limit")
        assert refused["Retry-After"] == "1"
        first.cut()  # gone before it was answered
        await stage.until(lambda: limited.under_way() == [0])
        third = await stage.connect()
        await third.send(request_head())
        await stage.until(lambda: limited.under_way() == [1])
        release.set()
        assert (await third.reply()).status == 200
        assert limited.under_way() == [0]


async def test_g5_a_raw_connection_is_under_way_until_it_ends() -> None:
    limited = Limited(Defaults(team=Limits(streams=1)))

    async def echo(side: ServiceSide) -> None:
        await side.send(await side.read(4))
        await side.read_to_end()

    async with Stage(governor=limited.governor, clock=limited.clock, tcp=echo) as stage:
        client = await stage.connect()
        await client.send(
            f"GET /t/home/cam/tcp HTTP/1.1\r\nHost: gw\r\n{BEARER}Connection: Upgrade\r\nUpgrade: homeport-tcp\r\n\r\n"
        )
        assert (await client.head()).status == 101
        await client.send("ping")
        assert await client.read(4) == b"ping"
        assert limited.under_way() == [1]
        stage.gateway.report_usage()  # what goes on for long is counted meanwhile
        assert limited.usage.calls == [("home:caller", "cam/tcp", 101, 0)]
        client.end()
        assert await client.read_to_end() == b""
        await stage.until(lambda: limited.under_way() == [0])
        assert limited.usage.calls[1:] == [("home:caller", "cam/tcp", 101, 1)]


async def test_g5_opens_a_second() -> None:
    limited = Limited(Defaults(token=Limits(opens_per_second=1)))
    closing = answering(ok(headers="Connection: close\r\n"))
    async with Stage(governor=limited.governor, clock=limited.clock, web=closing) as stage:
        client = await stage.connect()
        assert (await client.get("/")).status == 200
        refused = await client.get("/")
        assert (refused.status, refused["X-Homeport-Error"], refused["Retry-After"]) == (429, "too_many_opens", "1")
        stage.advance(1)
        assert (await client.get("/")).status == 200


async def test_g5_a_kept_stream_is_no_open() -> None:
    limited = Limited(Defaults(token=Limits(opens_per_second=1)))
    async with Stage(governor=limited.governor, clock=limited.clock, web=answering(ok())) as stage:
        client = await stage.connect()
        assert [(await client.get("/")).status for _ in range(10)] == [200] * 10


async def test_g5_body_and_header_size() -> None:
    limited = Limited(Defaults(team=Limits(max_body_bytes=10, max_header_bytes=400)))
    async with Stage(governor=limited.governor, clock=limited.clock, web=answering(ok())) as stage:
        client = await stage.connect()
        assert (await client.request("POST", "/", b"0123456789")).status == 200
        long = await client.request("POST", "/", b"01234567890")
        assert (long.status, long["X-Homeport-Error"]) == (413, "body_too_large")
        client = await stage.connect()
        await client.send(request_head("POST", headers="Transfer-Encoding: chunked\r\n"))
        await client.send("6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n")
        assert (await client.reply()).status == 413
        client = await stage.connect()
        wide = await client.get("/", headers=f"X-Wide: {'x' * 400}\r\n")
        assert (wide.status, wide["X-Homeport-Error"]) == (431, "head_too_large")
        assert (await client.get("/")).status == 200
        assert limited.under_way() == [0]


SIZE = 300_000
RATE = 200_000


@pytest.mark.parametrize("way", ["down", "up"])
async def test_g5_bytes_a_second_are_shaped_and_nothing_is_cut(way: str) -> None:
    limited = Limited(Defaults(token=Limits(bytes_per_second=RATE)), clock=RealTime())
    async with Stage(
        governor=limited.governor, clock=limited.clock, web=answering(ok(b"x" * SIZE if way == "down" else b"ok"))
    ) as stage:
        client = await stage.connect()
        began = time.monotonic()
        for _ in range(2):
            reply = await client.request("POST", "/", b"" if way == "down" else b"y" * SIZE)
            assert reply.status == 200
            assert reply.complete
        # A second's worth may go at once, and the last piece is not waited for; the clock tells no less than it took.
        assert time.monotonic() - began >= (2 * SIZE - RATE - 256 * 1024) / RATE
        assert limited.usage.bytes_in + limited.usage.bytes_out >= 2 * SIZE


async def test_requests_are_counted_by_whose_they_are_and_how_they_ended() -> None:
    limited = Limited(Defaults(token=Limits(requests=Rate(quota=4, window=60))))
    async with Stage(governor=limited.governor, clock=limited.clock, web=answering(ok())) as stage:
        client = await stage.connect()
        await client.get("/")
        await client.get("", device="cam")
        await client.get("/", device="made-up")
        await client.get("/", service="none")
        await client.get("/")
        assert limited.usage.calls == [
            ("home:caller", "cam/web", 200, 1),
            ("home:caller", "cam/web", 308, 1),
            ("home:caller", "", 502, 1),
            ("home:caller", "", 502, 1),
            ("home:caller", "cam/web", 429, 1),
        ]
        assert limited.usage.bytes_out > 500


async def test_the_same_without_limits() -> None:
    limited = Limited(Defaults())
    async with Stage(governor=limited.governor, clock=limited.clock, web=answering(ok())) as stage:
        client = await stage.connect()
        assert [(await client.get("/")).status for _ in range(3)] == [200] * 3
        assert limited.usage.calls == [("home:caller", "cam/web", 200, 1)] * 3
