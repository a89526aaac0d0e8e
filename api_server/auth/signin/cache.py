"""What was found out about sessions just now. Size and age are bounded; time is passed in."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["RecentlyKnown"]

T = TypeVar("T")


class RecentlyKnown(Generic[T]):
    """Values that are true for a moment.

    A value that was asked for before `forget` was called, and arrives after it, is not kept: it would bring back what
    has just ended.

    Args:
        lifetime: seconds.
        limit: values.
    """

    __slots__ = ("_generation", "_kept", "_lifetime", "_limit")

    def __init__(self, *, lifetime: float, limit: int) -> None:
        self._lifetime = lifetime
        self._limit = limit
        self._kept: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._generation = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def generation(self) -> int:
        """Grows when something is forgotten; take it before asking."""
        return self._generation

    def get(self, key: str, now: float) -> T | None:
        """What is known, if it is young enough.

        Args:
            key: of the value.
            now: seconds, monotonic.
        """
        kept = self._kept.get(key)
        if kept is None or now >= kept[0] + self._lifetime:
            return None
        return kept[1]

    def put(self, key: str, value: T, *, asked_at: float, generation: int) -> None:
        """Keep a value.

        Args:
            key: of the value.
            value: as it was found.
            asked_at: when the question was put: that is how old the answer is.
            generation: from before that.
        """
        if generation != self._generation:
            return
        self._kept[key] = (asked_at, value)
        self._kept.move_to_end(key)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def forget(self) -> None:
        """Forget everything: something has ended."""
        self._generation += 1
        self._kept.clear()
