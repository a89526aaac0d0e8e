"""Quotas that processes share, counted in a real server of the Redis protocol (T4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from api_server.limits.errors import LimitsUnavailableError, QuotaExceededError
from api_server.limits.limiter import Limiter
from api_server.limits.meters import Meter
from api_server.limits.metrics import LimitMetrics
from api_server.limits.records import Defaults, Limits, Rate, WhenAway
from api_server.limits.valkey_counter import Counter, Hold, ValkeyCounter
from common.secret import Secret
from tests.api_server.fakes import FakeClock
from tests.stack.redis import Redis, redis

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with redis() as running:
        yield running


class One:
    """A process that counts in `counter`."""

    def __init__(self, counter: Counter, clock: FakeClock | None = None) -> None:
        self.clock, self.registry = clock or FakeClock(), CollectorRegistry()
        self.limiter = Limiter(self.clock, LimitMetrics(self.registry), counter)

    def limit(self, rate: Rate | None = None, **limits: int) -> None:
        self.limiter.apply(Defaults(token=Limits(requests=rate, **limits)), {})

    def meters(self, token: str) -> list[Meter]:
        return self.limiter.subjects(team="home", token=token, route=None, address="", device=None)

    async def request(self, token: str) -> bool:
        meters = self.meters(token)
        try:
            if not self.limiter.request(meters):
                await self.limiter.wait_request(meters)
        except QuotaExceededError:
            return False
        return True

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"homeport_limits_{name}", labels) or 0.0


@asynccontextmanager
async def processes(*counters: Counter, clock: FakeClock | None = None) -> AsyncIterator[list[One]]:
    """A process for each counter."""
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        found = [One(counter, clock) for counter in counters]
        for each in found:
            stack.callback(tasks.create_task(each.limiter.run()).cancel)
        await asyncio.sleep(0)
        yield found


def counting(server: Redis) -> ValkeyCounter:
    return ValkeyCounter(Secret(server.url), time.time)


@pytest.mark.parametrize("quota", [3, 19, 200, 1000])
async def test_t4_processes_share_a_quota(server: Redis, quota: int) -> None:
    """All together never get more than it, and a busy one is not kept from what the others do not use."""
    async with processes(counting(server), counting(server), counting(server)) as (one, two, three):
        for each in (one, two, three):
            each.limit(Rate(quota=quota, window=3600))
        passed = 0
        for _ in range(quota):
            for each in (one, two, three):
                passed += await each.request(f"token-{quota}")
        # What a process took ahead and did not use stays with it: at most a twentieth of the quota each.
        assert quota - 3 * (quota // 20) <= passed <= quota
        assert not await one.request(f"token-{quota}")
        assert await one.request(f"other-{quota}")


async def test_t4_leases_spare_most_questions(server: Redis) -> None:
    async with processes(counting(server)) as (one,):
        one.limit(Rate(quota=100_000, window=3600))
        for _ in range(20_000):
            assert await one.request("busy")
            if one.metric("waited_total") > 100:
                break
            await asyncio.sleep(0)
        assert one.metric("shared_asked_total") < 40
        assert one.metric("waited_total") < 20


async def test_t4_who_is_refused_is_told_when_and_does_not_ask_each_time(server: Redis) -> None:
    async with processes(counting(server)) as (one,):
        one.limit(Rate(quota=2, window=100))
        assert [await one.request("told") for _ in range(3)] == [True, True, False]
        asked = one.metric("shared_asked_total")
        for _ in range(50):
            assert not await one.request("told")
        assert one.metric("shared_asked_total") == asked
        with pytest.raises(QuotaExceededError) as caught:
            one.limiter.request(one.meters("told"))
        assert 0 < (caught.value.retry_after or 0) <= 200


async def test_many_at_once_ask_once(server: Redis) -> None:
    async with processes(counting(server)) as (one,):
        one.limit(Rate(quota=5, window=3600))
        assert sum(await asyncio.gather(*(one.request("crowd") for _ in range(100)))) == 5


class Absent:
    """A counter that is not there until somebody starts it; then it grants all."""

    held_for = 30.0

    def __init__(self) -> None:
        self.there = False
        self.asked = 0

    async def acquire(self, key: str, rate: Rate, cost: int) -> bool:
        self.asked += 1
        if not self.there:
            raise ConnectionError
        return True

    async def wait(self, key: str, rate: Rate) -> float:
        return 1.0

    async def hold(self, holds: Sequence[Hold]) -> list[int]:
        self.asked += 1
        if not self.there:
            raise ConnectionError
        return [each.want for each in holds]

    async def spend(self, key: str, rate: int, size: int) -> float:
        self.asked += 1
        if not self.there:
            raise ConnectionError
        return 0.0

    async def aclose(self) -> None:
        pass


async def test_t4_an_open_limit_goes_on_by_itself_while_the_counter_is_away() -> None:
    counter = Absent()
    async with processes(counter) as (one,):
        one.limit(Rate(quota=3, window=60))
        assert [await one.request("a") for _ in range(5)] == [True, True, True, False, False]
        assert counter.asked == 1  # not for each request
        assert one.metric("shared_away") == 1
        assert one.metric("alone_total", how="open") == 5
        counter.there = True
        one.clock.advance(1.5)
        assert await one.request("a")
        assert one.metric("shared_away") == 0


async def test_t4_a_closed_limit_refuses_while_the_counter_is_away() -> None:
    counter = Absent()
    async with processes(counter) as (one,):
        one.limit(Rate(quota=3, window=60, when_away=WhenAway.CLOSED))
        for _ in range(3):
            with pytest.raises(LimitsUnavailableError):
                await one.request("a")
        assert one.metric("alone_total", how="closed") == 3
        counter.there = True
        one.clock.advance(1.5)
        assert await one.request("a")


async def test_t4_a_server_that_is_gone_is_noticed_and_one_that_is_back_as_well() -> None:
    with redis() as server:
        counter = counting(server)
        async with processes(counter) as (one,):
            one.limit(Rate(quota=100, window=60))
            assert await one.request("a")
            server.process.stop()
            one.clock.advance(10)
            for number in range(30):
                assert await one.request(f"b{number}")
            assert one.metric("shared_failed_total") >= 1
