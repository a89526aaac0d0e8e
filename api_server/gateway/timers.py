"""One timer for all connections: a wheel of buckets, as coarse as its tick, with the time passed in.

Deadlines move all the time and are reached almost never. So an item is not moved when its deadline grows: its bucket
comes up, is looked through, and what is not due goes on to a later bucket. To push a deadline back costs one store.

    arm(item, at)      the deadline is `at`; cheap when it is later than the item's bucket
    advance(now)       calls `due(now)` of each item whose deadline has passed, at most one tick late, never early
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["NEVER", "Timed", "TimerWheel"]

NEVER: Final = float("inf")
"""A deadline that does not come."""

_UNARMED: Final = 1 << 62
_HORIZON: Final = 256
"""Buckets ahead; what is due later is looked at once on the way."""


class Timed(Protocol):
    """What has a deadline. Both attributes belong to the wheel; `NEVER` and `UNARMED` to begin with."""

    deadline: float
    bucket: int

    def due(self, now: float) -> None:
        """The deadline has passed. To go on living, arm again."""


class TimerWheel:
    """Deadlines of many items.

    Args:
        tick: seconds that a bucket covers.
        now: seconds, monotonic.
    """

    __slots__ = ("_buckets", "_current", "_tick", "now")

    UNARMED: Final = _UNARMED

    def __init__(self, *, tick: float, now: float) -> None:
        self._tick = tick
        self._current = int(now / tick)
        self._buckets: dict[int, set[Timed]] = {}
        self.now = now
        """The time of the last `advance`: up to a tick old, and free of charge."""

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def arm(self, item: Timed, deadline: float) -> None:
        """Set the item's deadline; seconds, monotonic, or `NEVER`."""
        item.deadline = deadline
        if deadline < (item.bucket - 1) * self._tick:
            self._move(item)

    def disarm(self, item: Timed) -> None:
        """Take the item out."""
        bucket = self._buckets.get(item.bucket)
        if bucket is not None:
            bucket.discard(item)
        item.bucket = _UNARMED
        item.deadline = NEVER

    def advance(self, now: float) -> None:
        """Call what is due; to be called about once a tick."""
        self.now = now
        current = int(now / self._tick)
        while self._current < current:
            self._current += 1
            for item in self._buckets.pop(self._current, ()):
                item.bucket = _UNARMED
                if item.deadline <= now:
                    item.due(now)
                if item.bucket == _UNARMED and item.deadline != NEVER:
                    self._move(item)

    def _move(self, item: Timed) -> None:
        bucket = self._buckets.get(item.bucket)
        if bucket is not None:
            bucket.discard(item)
        # The first bucket that ends after the deadline, so that an item is never looked at too early to be due; one
        # that lies in the past goes into the next.
        ahead = self._current + _HORIZON
        at = ahead if item.deadline >= ahead * self._tick else int(item.deadline / self._tick) + 1
        item.bucket = max(at, self._current + 1)
        self._buckets.setdefault(item.bucket, set()).add(item)
