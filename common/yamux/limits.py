"""A cap on how often, as a token bucket that is only looked into when it may be empty."""

from __future__ import annotations

__all__ = ["RateLimit"]


class RateLimit:
    """Allows `burst` at once and `rate` a second in the long run.

    It is refilled when it has run dry and not before, so that a take costs a decrement. That is never laxer than a
    bucket refilled all the time, and as lax for a steady flow.

    Args:
        rate: takes a second.
        burst: takes at once, from a full bucket.
        now: the time; the bucket is full.
    """

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._since = now

    def take(self, now: float) -> bool:
        """Whether one more is allowed; it then counts."""
        if not self._left:
            self._left = int(min(self._burst, (now - self._since) * self._rate))
            if self._left <= 0:
                self._left = 0
                return False
            self._since = now
        self._left -= 1
        return True
