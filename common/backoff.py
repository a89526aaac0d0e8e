"""Full-jitter exponential back-off, as a plain class that never sleeps itself.

Every delay is drawn evenly from zero to a ceiling that doubles (M. Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015). The first retry is jittered too: after a relay restarts, all its agents lose their tunnel in
the same instant. The ceiling falls back only after a connection has been healthy for a while, so that one that dies
right after its handshake does not dial in a tight loop.
"""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Delays between attempts.

    Args:
        base: ceiling of the first delay, seconds.
        maximum: largest ceiling, seconds.
        healthy_after: seconds a connection must have lasted for the ceiling to start again at `base`.
        rng: source of randomness; a seeded one makes the delays repeatable.
    """

    __slots__ = ("_attempts", "_base", "_healthy_after", "_maximum", "_rng")

    def __init__(
        self,
        *,
        base: float = 1.0,
        maximum: float = 60.0,
        healthy_after: float = 60.0,
        rng: random.Random | None = None,
    ) -> None:
        if not 0 < base <= maximum:
            raise ValueError(f"back-off needs 0 < base <= maximum, not base={base}, maximum={maximum}")
        self._base = base
        self._maximum = maximum
        self._healthy_after = healthy_after
        self._rng = rng if rng is not None else random.SystemRandom()
        self._attempts = 0

    @property
    def attempts(self) -> int:
        """Delays handed out since the last healthy connection."""
        return self._attempts

    def connected_for(self, seconds: float) -> None:
        """Tell how long the connection that just ended had lasted; a healthy one starts the ceiling anew."""
        if seconds >= self._healthy_after:
            self._attempts = 0

    def next_delay(self, retry_after: float | None = None) -> float:
        """Seconds to wait before the next attempt.

        Args:
            retry_after: seconds that the peer asked for (`Retry-After`); the delay is at least that, with the jitter on
                top, so that peers told the same number do not return together.
        """
        ceiling = min(self._maximum, self._base * 2 ** min(self._attempts, 32))
        self._attempts += 1
        delay = self._rng.uniform(0.0, ceiling)
        return delay if retry_after is None else max(retry_after, 0.0) + delay
