"""What a figure should reach: the goals of the page."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.sides import REFERENCE

__all__ = ["AtLeast", "AtMost", "Goal"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach."""

    figure: str
    limit: float
    of_reference: bool
    """Whether the limit is for the ratio to another side, or for Homeport's own figure."""
    against: str = REFERENCE
    """Which other side."""

    def holds(self, value: float) -> bool:
        """Whether `value` (a ratio or a figure) reaches the goal."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class AtLeast(Goal):
    """The more, the better."""

    def holds(self, value: float) -> bool:
        return value >= self.limit

    def __str__(self) -> str:
        return f"at least {self.limit:g}{' times' if self.of_reference else ''}"


@dataclass(frozen=True, slots=True)
class AtMost(Goal):
    """The less, the better."""

    def holds(self, value: float) -> bool:
        return value <= self.limit

    def __str__(self) -> str:
        return f"at most {self.limit:g}{' times' if self.of_reference else ''}"
