"""Counts for all processes in Valkey (or Redis): quotas by the `limits` library, slots and bytes by scripts of ours.

A hash a subject has the slots that each process holds, and until when: a process that is gone loses them then. A number
a subject has the time at which all bytes would have gone at their pace. Both go by Valkey's clock.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from valkey.exceptions import ValkeyError

from api_server.limits.records import Rate
from common.clock import Clock
from common.secret import Secret

__all__ = ["Counter", "Hold", "ValkeyCounter", "counter_at"]

_HELD_FOR: Final = 30.0
"""Seconds for which a process that is gone holds its slots."""

_DEADLINE: Final = 0.25
"""Seconds for an answer of Valkey: a request may be waiting for it."""

_PREFIX: Final = "homeport:limits"

_HOLD: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me, held, want, most, life = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local others = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    if all[i] ~= me then
        local count, ends = string.match(all[i + 1], '^(%d+):(%d+)$')
        if tonumber(ends) > now then
            others = others + tonumber(count)
        else
            redis.call('HDEL', KEYS[1], all[i])
        end
    end
end
local granted = math.max(held, math.min(want, most - others))
if granted > 0 then
    redis.call('HSET', KEYS[1], me, string.format('%.0f:%.0f', granted, now + life))
    redis.call('PEXPIRE', KEYS[1], life)
else
    redis.call('HDEL', KEYS[1], me)
end
return granted
"""

_SPEND: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now - 1) + ARGV[1] / ARGV[2]
redis.call('SET', KEYS[1], string.format('%.6f', due), 'PX', math.ceil((due - now + 2) * 1000))
return string.format('%.6f', due - now)
"""


class Hold(msgspec.Struct, frozen=True):
    """What a process asks of the slots of one subject."""

    name: str
    held: int
    """That are in use: it keeps them, however many others there are."""
    want: int
    """That it would like to have in all."""
    most: int
    """That all processes may have."""


class Counter(Protocol):
    """Counts for all processes."""

    held_for: float
    """Seconds for which slots are held that are not asked for again."""

    async def acquire(self, key: str, rate: Rate, cost: int) -> bool:
        """Use `cost` units of a quota, all or none.

        Raises:
            ConnectionError: it cannot be asked.
        """
        ...

    async def wait(self, key: str, rate: Rate) -> float:
        """Seconds until one more unit is free, about.

        Raises:
            ConnectionError: it cannot be asked.
        """
        ...

    async def hold(self, holds: Sequence[Hold]) -> list[int]:
        """Have slots from now on, for `held_for` seconds; what was held of these subjects before is replaced.

        Returns:
            How many of each; fewer than wanted if there are no more.

        Raises:
            ConnectionError: it cannot be asked.
        """
        ...

    async def spend(self, key: str, rate: int, size: int) -> float:
        """Bytes have gone. Returns the seconds until all that has gone would have gone at `rate` bytes a second; down
        to -1 after a silence.

        Raises:
            ConnectionError: it cannot be asked.
        """
        ...

    async def aclose(self) -> None:
        """End its connections."""
        ...


class ValkeyCounter:
    """Implements `Counter`.

    Args:
        url: `redis://`, `rediss://` or `valkey://`.
        wall: seconds since the Unix epoch.
        held_for: seconds for which slots are held that are not asked for again.
    """

    def __init__(self, url: Secret, wall: Callable[[], float], *, held_for: float = _HELD_FOR) -> None:
        self.held_for = held_for
        self._storage = RedisStorage(
            f"async+{url.reveal()}",
            wrap_exceptions=True,
            implementation="valkey",
            key_prefix=_PREFIX,
            socket_timeout=_DEADLINE,
            socket_connect_timeout=_DEADLINE,
        )
        self._strategy = SlidingWindowCounterRateLimiter(self._storage)
        self._wall = wall
        self._me = secrets.token_hex(8)
        bridge: Any = self._storage.bridge
        self._client = bridge.get_connection()
        self._hold = self._client.register_script(_HOLD)
        self._spend = self._client.register_script(_SPEND)

    async def acquire(self, key: str, rate: Rate, cost: int) -> bool:
        try:
            async with asyncio.timeout(_DEADLINE):
                return await self._strategy.hit(_item(rate), key, cost=cost)
        except (StorageError, OSError) as exc:  # a TimeoutError is an OSError
            raise ConnectionError("the shared counter does not answer") from exc

    async def wait(self, key: str, rate: Rate) -> float:
        try:
            async with asyncio.timeout(_DEADLINE):
                stats = await self._strategy.get_window_stats(_item(rate), key)
        except (StorageError, OSError) as exc:
            raise ConnectionError("the shared counter does not answer") from exc
        return max(0.0, stats.reset_time - self._wall())

    async def hold(self, holds: Sequence[Hold]) -> list[int]:
        life = int(self.held_for * 1000)
        try:
            async with asyncio.timeout(_DEADLINE), self._client.pipeline(transaction=False) as pipeline:
                for each in holds:
                    arguments = [self._me, each.held, each.want, each.most, life]
                    await self._hold(keys=[f"{_PREFIX}:held:{each.name}"], args=arguments, client=pipeline)
                return [int(granted) for granted in await pipeline.execute()]
        except (ValkeyError, OSError) as exc:
            raise ConnectionError("the shared counter does not answer") from exc

    async def spend(self, key: str, rate: int, size: int) -> float:
        try:
            async with asyncio.timeout(_DEADLINE):
                return float(await self._spend(keys=[f"{_PREFIX}:spent:{key}"], args=[size, rate]))
        except (ValkeyError, OSError) as exc:
            raise ConnectionError("the shared counter does not answer") from exc

    async def aclose(self) -> None:
        await self._client.aclose()


def counter_at(url: Secret | None, clock: Clock) -> ValkeyCounter | None:
    """What counts for all processes; None where each counts for itself.

    Args:
        url: of the engine that they share; one that is not Valkey or Redis does not count.
        clock: wall time.
    """
    if url is None or not url.reveal().startswith(("redis", "valkey")):
        return None
    return ValkeyCounter(url, clock.wall)


def _item(rate: Rate) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(rate.quota, rate.window)
