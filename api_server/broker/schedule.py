"""When a token is refreshed, and when a provider that failed is asked again. Times are passed in.

B2: the margin is the configured one, or a fifth of the token's life where that is less: a margin longer than the life
would mean that no token is ever served from the cache. Of that margin four fifths to all of it are used, by chance, so
that tokens that were fetched together are not refreshed together.

B3: a failure is remembered for 1 s, each further one for twice as long, 60 s at most; at least as long as the provider
asks for.
"""

from __future__ import annotations

import random
from typing import Final

__all__ = ["LONGEST", "due_at", "retry_at"]

LONGEST: Final = 60.0
_SHARE: Final = 0.2


def due_at(now: float, life: float, margin: float, rng: random.Random) -> float:
    """When a token is to be refreshed.

    Args:
        now: when it was given, seconds since the Unix epoch.
        life: seconds.
        margin: seconds before its end, as configured.
        rng: source of randomness.
    """
    return now + life - min(margin, _SHARE * life) * rng.uniform(0.8, 1.0)


def retry_at(now: float, failures: int, retry_after: float | None) -> float:
    """When to ask again.

    Args:
        now: when it failed.
        failures: one after the other, this one included.
        retry_after: seconds that the provider asks for.
    """
    wait = min(LONGEST, 2.0 ** min(failures - 1, 10))
    return now + max(wait, retry_after or 0.0)
