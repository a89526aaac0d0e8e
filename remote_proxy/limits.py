"""How often something may happen, as a plain class: time is passed in, and nothing ever waits here."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """Allows `burst` at once and `rate` a second in the long run.

    Args:
        rate: tokens that come back a second.
        burst: tokens the bucket holds; it starts full.
        now: monotonic seconds, as for every call.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, *, now: float) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"a bucket needs rate > 0 and burst >= 1, not rate={rate}, burst={burst}")
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._updated = now

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0.0 if there is one now. Takes nothing."""
        tokens = self._tokens + (now - self._updated) * self._rate
        if tokens > self._burst:
            tokens = self._burst
        self._updated = now
        self._tokens = tokens
        return 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._rate

    def take(self, now: float) -> float:
        """Take one token. Returns 0.0 if there was one, else the seconds until there will be, taking nothing."""
        wait = self.wait(now)
        if not wait:
            self._tokens -= 1.0
        return wait
