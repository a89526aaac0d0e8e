"""When it is said that a token will expire, and how many of the times are over. Pure: the time is passed in."""

from __future__ import annotations

from typing import Final

__all__ = ["DAY", "WARNINGS", "days_of", "passed"]

DAY: Final = 86400.0

WARNINGS: Final = (30, 7, 1)
"""Days before its end at which one is told; from the first to the last."""


def passed(expires_at: float | None, now: float) -> int:
    """How many of the times are over for a token that expires then."""
    if expires_at is None:
        return 0
    return sum(expires_at - now <= days * DAY for days in WARNINGS)


def days_of(warned: int) -> int | None:
    """The days of the last of so many warnings; None for none."""
    return WARNINGS[warned - 1] if warned else None
