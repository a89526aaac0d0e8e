"""`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10): lists of Structured Fields (RFC 9651).

    RateLimit-Policy: "token";q=100;w=60, "team";q=1000;w=60
    RateLimit: "token";r=0;t=12

The name of a policy is the kind of subject whose quota it is. `r` is what is left, `t` the seconds until there is more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from api_server.limits.errors import QuotaExceededError

__all__ = ["Standing", "rate_limit_fields", "refusal_fields"]


class Standing(NamedTuple):
    """How a subject stands with one quota."""

    kind: str
    quota: int
    window: int
    remaining: int
    reset: float
    """Seconds until there is more; 0.0 when nothing was used up."""


def rate_limit_fields(standings: Iterable[Standing]) -> dict[str, str]:
    """The fields of an answer; none without a quota."""
    policies, states = [], []
    for each in standings:
        policies.append(f'"{each.kind}";q={each.quota};w={each.window}')
        states.append(f'"{each.kind}";r={each.remaining};t={math.ceil(each.reset)}')
    if not policies:
        return {}
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}


def refusal_fields(error: QuotaExceededError) -> dict[str, str]:
    """The fields of the 429 that a quota leads to."""
    reset = error.retry_after if error.retry_after is not None else 0.0
    return rate_limit_fields([Standing(str(error.kind), error.quota, error.window, 0, reset)])
