"""Quotas that all processes share, counted in Valkey (or Redis) by the `limits` library: its sliding window counter.

A request does not ask Valkey. A process takes a few units of a quota ahead (a lease), spends them without waiting, and
takes the next ones while it still has some. Only the first request after a silence, and one that comes when all is
spent, waits for an answer.

    take ──lease left──> yes          half of it gone: the next one is fetched meanwhile
      ├──refused a moment ago──> no   without asking again before `refused_until`
      ├──Valkey is away──> as the limit says: this process counts alone (open), or refuses (closed)
      └──nothing left──> pending ──fetch──> yes or no

How many units: as many as the last second needed, at most a twentieth of the quota. So a quota under 20 is exact, and
of a larger one a twentieth can go unused in each process that was busy a moment ago; it is never exceeded. What is left
of a lease lapses with the window that it was taken in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from api_server.limits.errors import LimitsUnavailableError
from api_server.limits.metrics import LimitMetrics
from api_server.limits.records import Rate, WhenAway
from api_server.limits.valkey_counter import Counter
from api_server.limits.window import SlidingWindow
from common.clock import Clock
from common.logging import get_logger

__all__ = ["SharedCounter", "SharedQuota"]

_log = get_logger(__name__)

_AWAY: Final = 1.0
"""Seconds for which Valkey is not asked again once it did not answer."""

_REFUSED: Final = 0.5
"""Seconds for which a refusal is believed at most: another process may have given up what it had taken."""

_SHARE: Final = 20
"""A lease is at most this part of a quota."""


class SharedCounter:
    """The counter as all quotas of a process use it: with a memory for its being away.

    Args:
        counter: that is asked.
        clock: for how long it is left alone.
        metrics: what is counted.
        spawn: runs a coroutine that does not raise.
    """

    def __init__(
        self,
        counter: Counter,
        clock: Clock,
        metrics: LimitMetrics,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self.counter = counter
        self.clock = clock
        self.metrics = metrics
        self.spawn = spawn
        self._away_until = 0.0

    def __repr__(self) -> str:
        return f"<SharedCounter: {'away' if self.is_away(self.clock.monotonic()) else 'there'}>"

    def is_away(self, now: float) -> bool:
        """Whether it did not answer a moment ago."""
        return now < self._away_until

    def failed(self) -> None:
        """It did not answer."""
        now = self.clock.monotonic()
        if not self._away_until:
            _log.warning("the shared counter of the limits does not answer; each limit says what holds meanwhile")
        self._away_until = now + _AWAY
        self.metrics.failed.inc()
        self.metrics.away.set(1)

    def counted_alone(self) -> None:
        """Something was decided without it, as if there were no other process."""
        self.metrics.alone.labels(WhenAway.OPEN).inc()

    def answered(self) -> None:
        """It did."""
        if self._away_until:
            _log.info("the shared counter of the limits answers again")
            self._away_until = 0.0
            self.metrics.away.set(0)


class SharedQuota:
    """One quota of one subject, in this process.

    Args:
        shared: counts for all processes.
        key: names the quota there.
        rate: the quota.
    """

    __slots__ = (
        "_chunk",
        "_filled",
        "_filled_at",
        "_filling",
        "_key",
        "_lease",
        "_local",
        "_refused_until",
        "_shared",
        "_wait",
        "rate",
    )

    def __init__(self, shared: SharedCounter, key: str, rate: Rate) -> None:
        self.rate = rate
        self._shared = shared
        self._key = key
        self._lease = 0
        self._chunk = 1
        self._filled_at = float("-inf")
        self._filling = False
        self._filled = asyncio.Event()
        self._refused_until = 0.0
        self._wait = 0.0
        self._local = SlidingWindow(rate.quota, rate.window)
        """Counts while nobody counts for all."""

    def __repr__(self) -> str:
        return f"<SharedQuota {self._key}: {self._lease} left of {self._chunk}>"

    def take(self, now: float) -> bool | None:
        """Use one unit: True, False, or None when only `wait_take` can tell.

        Args:
            now: seconds, monotonic.

        Raises:
            LimitsUnavailableError: the shared counter is away, and the limit fails closed.
        """
        if self._shared.is_away(now):
            return self._alone(now)
        if self._lease > 0 and now - self._filled_at < self.rate.window:
            self._lease -= 1
            if self._lease <= self._chunk // 2 and self._chunk > 1:
                self._fill()
            return True
        if now < self._refused_until:
            return False
        return None

    async def wait_take(self) -> bool:
        """The same, and wait for the shared counter if need be.

        Raises:
            LimitsUnavailableError: the shared counter is away, and the limit fails closed.
        """
        clock = self._shared.clock
        taken = self.take(clock.monotonic())
        if taken is not None:
            return taken
        self._shared.metrics.waited.inc()
        while (taken := self.take(clock.monotonic())) is None:
            self._fill()
            await self._filled.wait()
        return taken

    def give_back(self) -> None:
        """A unit was not used in the end."""
        self._lease += 1

    def wait(self, now: float) -> float:
        """Seconds until one more unit can be used, about."""
        if self._shared.is_away(now):
            return self._local.wait(now)
        return max(self._wait, self._refused_until - now)

    def refuses(self, now: float) -> bool:
        """Whether one more is known to be too many; nothing is used."""
        if self._shared.is_away(now):
            return self.rate.when_away is WhenAway.CLOSED or not self._local.remaining(now)
        return self._lease <= 0 and now < self._refused_until

    def remaining(self, now: float) -> int:
        """Units that this process knows to be left: no more than it has taken ahead."""
        return self._local.remaining(now) if self._shared.is_away(now) else max(0, self._lease)

    def _alone(self, now: float) -> bool:
        how = self.rate.when_away
        self._shared.metrics.alone.labels(how).inc()
        if how is WhenAway.CLOSED:
            raise LimitsUnavailableError("the shared counter of the limits is away", retry_after=_AWAY)
        return self._local.take(now)

    def _fill(self) -> None:
        if not self._filling:
            self._filling = True
            self._filled.clear()
            self._shared.spawn(self._ask())

    async def _ask(self) -> None:
        """Take the next lease."""
        shared = self._shared
        try:
            now = shared.clock.monotonic()
            lasted = now - self._filled_at
            if lasted < 1.0:
                self._chunk = min(self._chunk * 2, max(1, self.rate.quota // _SHARE))
            elif lasted > 4.0:
                self._chunk = max(1, self._chunk // 2)
            if lasted >= self.rate.window:
                self._lease = 0  # of a window that is over
            await self._acquire()
        except ConnectionError:
            shared.failed()
        finally:
            self._filling = False
            self._filled.set()

    async def _acquire(self) -> None:
        shared, counter = self._shared, self._shared.counter
        for cost in dict.fromkeys((self._chunk, 1)):
            shared.metrics.asked.inc()
            if await counter.acquire(self._key, self.rate, cost):
                shared.answered()
                self._lease += cost
                self._filled_at = shared.clock.monotonic()
                return
        self._chunk = 1
        shared.metrics.asked.inc()
        self._wait = await counter.wait(self._key, self.rate)
        shared.answered()
        self._refused_until = shared.clock.monotonic() + min(_REFUSED, max(0.01, self._wait))
