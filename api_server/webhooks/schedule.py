"""When a delivery that failed is tried again, and what an answer means. Pure."""

from __future__ import annotations

import random
from enum import Enum
from typing import Final

__all__ = ["GIVE_UP", "Verdict", "next_delay", "verdict_of"]

_DELAYS: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200)
"""Seconds, about 28 hours in all."""

GIVE_UP: Final = len(_DELAYS) + 1
"""Attempts after which a delivery is dead."""

_SPREAD: Final = 0.2
"""Of a delay, either way: what failed together does not come back together."""

_MOST: Final = 24 * 3600.0
"""Seconds that a receiver may ask us to wait."""


class Verdict(Enum):
    """What an answer means."""

    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"
    """410: nothing more is wanted there."""


def verdict_of(status: int) -> Verdict:
    """What an answer with that status means. A redirect is a failure: it leads where nobody has looked."""
    if 200 <= status < 300:
        return Verdict.DELIVERED
    return Verdict.GONE if status == 410 else Verdict.FAILED


def next_delay(attempts: int, retry_after: str | None, rng: random.Random) -> float | None:
    """Seconds to the next attempt; None when there is none.

    Args:
        attempts: that have failed.
        retry_after: `Retry-After` of the answer; only the form in seconds is looked at.
        rng: source of randomness.
    """
    if attempts >= GIVE_UP:
        return None
    delay = _DELAYS[attempts - 1] * (1.0 + rng.uniform(-_SPREAD, _SPREAD))
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10:
        delay = max(delay, min(float(retry_after), _MOST))
    return delay
