"""The pace of bytes that all processes share: each tells Valkey what has gone, a twentieth of a second's worth at a
time, and learns by how much all of them are ahead.

Nobody waits for that answer: until it comes, a process knows what it has sent itself. So each process can be ahead by
that twentieth and what goes in a round trip; what was too much is made up for, because it is counted and not forgotten.
While Valkey is away each process keeps the pace by itself.
"""

from __future__ import annotations

from typing import Final

from api_server.limits.shared import SharedCounter

__all__ = ["SharedPace"]

_SHARE: Final = 20
"""What has gone is told when it is this part of a second's worth."""


class SharedPace:
    """The pace of one subject, in this process. Implements `Pace`.

    Args:
        shared: counts for all processes.
        key: names it there.
        rate: bytes a second.
    """

    __slots__ = ("_batch", "_due", "_key", "_shared", "_telling", "_untold", "rate")

    def __init__(self, shared: SharedCounter, key: str, rate: int) -> None:
        self.rate = rate
        self._shared = shared
        self._key = key
        self._batch = rate // _SHARE
        self._due = 0.0
        """When all that has gone, as far as is known here, would have gone at the rate."""
        self._untold = 0
        self._telling = False

    def __repr__(self) -> str:
        return f"<SharedPace {self._key}: {self._untold} bytes untold>"

    def spend(self, size: int, now: float) -> float:
        due = self._due = max(self._due, now - 1.0) + size / self.rate
        self._untold += size
        if self._untold >= self._batch and not self._telling:
            if self._shared.is_away(now):
                self._shared.counted_alone()
                self._untold = 0
            else:
                self._telling = True
                self._shared.spawn(self._tell())
        return max(0.0, due - now)

    async def _tell(self) -> None:
        shared = self._shared
        size, self._untold = self._untold, 0
        shared.metrics.asked.inc()
        try:
            ahead = await shared.counter.spend(self._key, self.rate, size)
        except ConnectionError:
            shared.failed()
        else:
            shared.answered()
            # What has gone meanwhile is not in it.
            self._due = shared.clock.monotonic() + ahead + self._untold / self.rate
        finally:
            self._telling = False
