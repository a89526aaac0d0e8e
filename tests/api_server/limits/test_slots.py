"""Streams at a time, opens and bytes a second, shared by processes in a real server of the Redis protocol (G5)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from api_server.limits.errors import TooManyOpensError, TooManyStreamsError
from api_server.limits.meters import Meter
from api_server.limits.valkey_counter import ValkeyCounter
from common.secret import Secret
from tests.api_server.fakes import FakeClock
from tests.api_server.limits.test_shared import Absent, One, counting, processes
from tests.stack.redis import Redis, redis

pytestmark = pytest.mark.anyio

_NAMES = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with redis() as running:
        yield running


@pytest.fixture
def token() -> str:
    """One that no other test has used."""
    return f"token-{next(_NAMES)}"


class RealTime(FakeClock):
    """A clock that goes."""

    def monotonic(self) -> float:
        return time.monotonic()


async def begin(one: One, token: str) -> list[Meter] | None:
    """A stream of a process; None when it may not begin."""
    meters = one.meters(token)
    try:
        if not one.limiter.begin(meters):
            await one.limiter.wait_begin(meters)
    except TooManyStreamsError:
        return None
    return meters


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("most", [1, 3, 19, 100])
async def test_g5_processes_share_streams_at_a_time(server: Redis, token: str, most: int) -> None:
    async with processes(*(counting(server) for _ in range(3)), clock=RealTime()) as them:
        for each in them:
            each.limit(streams=most)
        begun: list[tuple[One, list[Meter]]] = []
        for _ in range(most // 3 + 1):
            for each in them:
                meters = await begin(each, token)
                if meters is not None:
                    begun.append((each, meters))
        assert len(begun) <= most
        # What others asked for ahead is given back in a moment: then the last ones are to be had, by anybody.
        async with asyncio.timeout(30):
            while len(begun) < most:
                meters = await begin(them[0], token)
                if meters is not None:
                    begun.append((them[0], meters))
        for each in them:
            assert await begin(each, token) is None
        # One less anywhere is one more anywhere else.
        holder, meters = begun.pop()
        holder.limiter.end(meters)
        other = next(each for each in them if each is not holder)
        async with asyncio.timeout(30):
            while await begin(other, token) is None:
                pass


async def test_g5_a_stream_that_ended_in_one_process_may_begin_in_another_at_once(server: Redis, token: str) -> None:
    """A limit of one, and requests one after the other by whichever process: none is refused."""
    async with processes(counting(server), counting(server), clock=RealTime()) as them:
        for each in them:
            each.limit(streams=1)
        for each in (*them, *them, *them):
            meters = await begin(each, token)
            assert meters is not None
            each.limiter.end(meters)


async def test_g5_requests_one_after_the_other_ask_once(server: Redis, token: str) -> None:
    async with processes(counting(server), clock=RealTime()) as (one,):
        one.limit(streams=1000)
        for _ in range(2000):
            meters = one.meters(token)
            if not one.limiter.begin(meters):
                await one.limiter.wait_begin(meters)
            one.limiter.end(meters)
        assert one.metric("shared_asked_total") < 20
        assert one.metric("waited_total") < 20


async def test_g5_many_at_once_are_one_question(server: Redis, token: str) -> None:
    async with processes(counting(server)) as (one,):
        one.limit(streams=300)
        found = await asyncio.gather(*(begin(one, token) for _ in range(400)))
        assert sum(each is not None for each in found) == 300
        assert one.metric("shared_asked_total") < 10


async def test_g5_thousands_of_subjects_are_asked_for_in_parts(server: Redis, token: str) -> None:
    """Each with a stream for longer than its slot would last without being asked for again."""
    counter = ValkeyCounter(Secret(server.url), time.time, held_for=3.0)
    number = 1500
    async with processes(counter, counting(server), clock=RealTime()) as (one, two):
        for each in (one, two):
            each.limit(streams=1)
        names = [f"{token}-{each}" for each in range(number)]
        assert None not in await asyncio.gather(*(begin(one, name) for name in names))
        asked = one.metric("shared_asked_total")
        assert number / 200 <= asked < 50
        await until(lambda: one.metric("shared_asked_total") >= asked + 3 * (number // 200))
        assert one.metric("shared_failed_total") == 0
        found = await asyncio.gather(*(begin(two, name) for name in names[::50]))
        assert set(found) == {None}


async def test_g5_a_process_that_is_gone_holds_nothing_for_long(server: Redis, token: str) -> None:
    gone = ValkeyCounter(Secret(server.url), time.time, held_for=0.3)
    async with processes(counting(server), clock=RealTime()) as (two,):
        two.limit(streams=1)
        one = One(gone, RealTime())
        one.limit(streams=1)
        running = asyncio.get_running_loop().create_task(one.limiter.run())
        await asyncio.sleep(0)
        assert await begin(one, token) is not None
        assert await begin(two, token) is None
        # While it lives it asks again and keeps its slot: for longer than the slot would last without that.
        async with asyncio.timeout(30):
            for _ in range(3):
                assert await begin(two, token) is None
        # Its end is sudden: nothing of what it would do at its end reaches the server.
        await gone.aclose()
        gone.hold = never  # type: ignore[method-assign]
        running.cancel()
        async with asyncio.timeout(30):
            while await begin(two, token) is None:
                pass


async def never(holds: object) -> list[int]:
    raise ConnectionError


async def test_g5_a_process_that_ends_gives_back_what_it_holds(server: Redis, token: str) -> None:
    async with processes(counting(server), clock=RealTime()) as (two,):
        two.limit(streams=1)
        async with processes(counting(server), clock=RealTime()) as (one,):
            one.limit(streams=1)
            assert await begin(one, token) is not None
        assert await begin(two, token) is not None


async def test_g5_a_limit_that_changes_counts_what_is_under_way(server: Redis, token: str) -> None:
    async with processes(counting(server), counting(server), clock=RealTime()) as (one, two):
        one.limit(max_body_bytes=1)
        two.limit(max_body_bytes=1)
        begun = [await begin(one, token) for _ in range(5)]
        for each in (one, two):
            each.limit(streams=6)
        assert await begin(one, token) is not None
        assert await begin(two, token) is None
        for each in (one, two):
            each.limit(streams=7)
        assert await begin(two, token) is not None
        for each in (one, two):
            each.limit(streams=2)
        for meters in begun:
            assert meters is not None
            one.limiter.end(meters)
        assert await begin(one, token) is None
        for each in (one, two):
            each.limit()
        assert await begin(two, token) is not None


async def test_g5_while_the_counter_is_away_each_process_counts_alone() -> None:
    counter = Absent()
    async with processes(counter) as (one,):
        one.limit(streams=2, opens_per_second=3, bytes_per_second=100_000)
        meters = [await begin(one, "a") for _ in range(3)]
        assert [each is not None for each in meters] == [True, True, False]
        assert counter.asked == 1  # not for each
        for _ in range(3):
            await one.limiter.wait_open(one.meters("a"))
        with pytest.raises(TooManyOpensError):
            await one.limiter.wait_open(one.meters("a"))
        (meter,) = one.meters("a")
        assert meter.pace is not None
        now = one.clock.monotonic()
        assert meter.pace.spend(100_000, now) == 0.0
        assert meter.pace.spend(50_000, now) == pytest.approx(0.5)
        assert one.metric("alone_total", how="open") > 0
        counter.there = True
        one.clock.advance(2)
        for each in meters[:2]:
            assert each is not None
            one.limiter.end(each)
        assert await begin(one, "a") is not None
        assert one.metric("shared_away") == 0


async def test_g5_who_waits_when_the_counter_goes_away_is_not_kept_waiting() -> None:
    counter = Absent()
    async with processes(counter) as (one,):
        one.limit(streams=1)
        assert None not in await asyncio.gather(*(begin(one, f"a-{each}") for each in range(1000)))
        assert counter.asked == 1


async def test_g5_processes_share_opens_a_second(server: Redis, token: str) -> None:
    async with processes(*(counting(server) for _ in range(3)), clock=RealTime()) as them:
        for each in them:
            each.limit(opens_per_second=12)
        began = time.monotonic()
        opened = refused = 0
        for _ in range(10):
            for each in them:
                try:
                    await each.limiter.wait_open(each.meters(token))
                    opened += 1
                except TooManyOpensError:
                    refused += 1
        # A slow machine may have given it another second, or more.
        assert 12 <= opened <= 12 * (2 + int(time.monotonic() - began))
        assert opened + refused == 30


async def test_g5_processes_share_bytes_a_second(server: Redis, token: str) -> None:
    """Two that send as fast as they are let keep the pace together, beside a second's worth that may go at once."""
    rate, piece, total = 200_000, 4_000, 400_000
    async with processes(counting(server), counting(server), clock=RealTime()) as them:
        for each in them:
            each.limit(bytes_per_second=rate)

        async def send(one: One) -> None:
            (meter,) = one.meters(token)
            assert meter.pace is not None
            for _ in range(total // 2 // piece):
                wait = meter.pace.spend(piece, one.clock.monotonic())
                await asyncio.sleep(max(0.001, wait))

        began = time.monotonic()
        await asyncio.gather(*(send(each) for each in them))
        # Each may be ahead by a twentieth of a second and by a piece.
        assert time.monotonic() - began >= (total - rate - 2 * (rate // 20 + 2 * piece)) / rate
        for each in them:
            assert each.metric("shared_asked_total") <= total / 2 / (rate // 20) + 5
