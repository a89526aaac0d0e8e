"""Whether something grows: a robust slope over the second half of a process's life, against a budget.

Theil and Sen's estimator is the median of the slopes between all pairs of samples (P. K. Sen, "Estimates of the
regression coefficient based on Kendall's tau", 1968): up to 29 % of the samples may be as wrong as they like, so that
a burst, or a garbage collector's saw-tooth, does not tilt it. The first half of a life is left out: caches fill,
allocators take their arenas, windows grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["BUDGETS", "Budget", "Growth", "growth", "theil_sen"]

_MOST_POINTS = 300
"""Points whose pairs are looked at; of more, an evenly spaced choice."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How fast something may grow."""

    a_minute: float
    unit: str
    why: str


BUDGETS: Mapping[str, Budget] = {
    "memory": Budget(0.1, "MiB", "6 MiB an hour: a stream of 256 KiB forgotten every 2 minutes is seen"),
    "descriptors": Budget(0.3, "", "with the same clients all the time; one socket lost in 3 minutes is seen"),
    "threads": Budget(0.1, "", "they are started in the beginning, if at all"),
    "streams": Budget(0.3, "", "with the same clients all the time; one stream lost in 3 minutes is seen"),
    "sessions": Budget(0.1, "", "as many as there are devices"),
    "tasks": Budget(0.3, "", "one task lost in 3 minutes is seen"),
    "held": Budget(0.1, "MiB", "bytes held for slow readers, and windows granted: they come back with the readers"),
}
"""What is watched, and how much of it may come in a minute."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How something developed in the second half of a life."""

    slope: float
    """A minute."""
    first: float
    """Median of the first quarter of what was looked at."""
    last: float
    """Median of its last quarter."""
    points: int
    minutes: float

    def exceeds(self, budget: Budget) -> bool:
        """Whether it grew faster than it may."""
        return self.slope > budget.a_minute


def theil_sen(minutes: Sequence[float], values: Sequence[float]) -> float:
    """The median of the slopes between all pairs of points; 0 if there are no two moments."""
    if len(minutes) > _MOST_POINTS:
        chosen = [round(n * (len(minutes) - 1) / (_MOST_POINTS - 1)) for n in range(_MOST_POINTS)]
        minutes, values = [minutes[n] for n in chosen], [values[n] for n in chosen]
    slopes = [
        (values[b] - values[a]) / (minutes[b] - minutes[a])
        for a in range(len(minutes))
        for b in range(a + 1, len(minutes))
        if minutes[b] > minutes[a]
    ]
    return median(slopes) if slopes else 0.0


def growth(minutes: Sequence[float], values: Sequence[float]) -> Growth:
    """Of one life: its first half is left out.

    Args:
        minutes: when the samples were taken, in order.
        values: what they were.
    """
    begin = (minutes[0] + minutes[-1]) / 2
    start = next(n for n, minute in enumerate(minutes) if minute >= begin)
    minutes, values = minutes[start:], values[start:]
    quarter = max(1, len(values) // 4)
    return Growth(
        slope=theil_sen(minutes, values),
        first=median(values[:quarter]),
        last=median(values[-quarter:]),
        points=len(values),
        minutes=minutes[-1] - minutes[0],
    )
