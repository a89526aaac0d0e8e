"""How much was used in the last so many seconds, as plain classes: time is passed in, and nothing ever waits here.

The sliding window is the two-counter one that the `limits` library computes in Valkey, so that a quota means the same
whether one process counts or all of them do: what was used in the window before counts by the share of it that still
lies within the last `window` seconds. The library's own counter in memory is not used: it starts a thread for each
sweep, reads the wall clock, and has no bound.
"""

from __future__ import annotations

import math

__all__ = ["DebtBucket", "OpenBucket", "SlidingWindow"]


class SlidingWindow:
    """Counts what one subject uses.

    Args:
        quota: units a window.
        window: seconds.
    """

    __slots__ = ("_count", "_index", "_previous", "quota", "window")

    def __init__(self, quota: int, window: float) -> None:
        self.quota = quota
        self.window = window
        self._index = 0
        self._count = 0
        self._previous = 0

    def take(self, now: float, cost: int = 1) -> bool:
        """Use `cost` units if there are as many left; all of them or none.

        Args:
            now: seconds, monotonic, as for every call.
        """
        elapsed = self._turn(now)
        if int(self._previous * (1.0 - elapsed)) + self._count + cost > self.quota:
            return False
        self._count += cost
        return True

    def remaining(self, now: float) -> int:
        """Units that are left."""
        elapsed = self._turn(now)
        return max(0, self.quota - int(self._previous * (1.0 - elapsed)) - self._count)

    def wait(self, now: float) -> float:
        """Seconds until one unit can be used; 0.0 if it can be now."""
        elapsed = self._turn(now)
        free = self.quota - self._count - 1
        if int(self._previous * (1.0 - elapsed)) <= free:
            return 0.0
        if free >= 0:
            # The share of the window before must fall below free + 1.
            return max(0.0, (1.0 - (free + 1) / self._previous - elapsed) * self.window) + 1e-3
        # This window is used up by itself: only in the next one does its share begin to fall.
        share = 1.0 - self.quota / self._count if self._count else 0.0
        return (1.0 - elapsed + share) * self.window + 1e-3

    def _turn(self, now: float) -> float:
        """Go to the window of `now`; the part of it that is over, from 0 to 1."""
        position = now / self.window
        index = math.floor(position)
        if index != self._index:
            self._previous = self._count if index == self._index + 1 else 0
            self._count = 0
            self._index = index
        return position - index


class OpenBucket:
    """Allows `rate` at once, and as many a second in the long run.

    Args:
        rate: units a second.
    """

    __slots__ = ("_full_at", "_rate")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        # The time at which it is full again (ITU-T I.371, virtual scheduling).
        self._full_at = 0.0

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        if self.wait(now) > 0.0:
            return False
        self._full_at = max(self._full_at, now) + 1.0 / self._rate
        return True

    def wait(self, now: float) -> float:
        """Seconds until there will be one; 0.0 if there is."""
        wait = max(self._full_at, now) - now - (self._rate - 1) / self._rate
        return wait if wait > 1e-9 else 0.0

    def give_back(self) -> None:
        """One was not used in the end."""
        self._full_at -= 1.0 / self._rate


class DebtBucket:
    """Paces bytes: they are counted when they have gone, and what was too much is waited for before the next.

    Args:
        rate: bytes a second; as many may go at once after a second of silence.
    """

    __slots__ = ("_due", "rate")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._due = 0.0
        """When all that has gone would have gone at the rate."""

    def spend(self, size: int, now: float) -> float:
        """Count bytes that have gone. Returns the seconds to wait before more of them go."""
        due = max(self._due, now - 1.0) + size / self.rate
        self._due = due
        return max(0.0, due - now)
