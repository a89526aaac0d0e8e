"""A memory budget that tells when it had no room: a scenario that is about pressure must bring it about."""

from __future__ import annotations

from collections import Counter

from common.yamux import MemoryBudget

__all__ = ["CountingBudget"]


class CountingBudget(MemoryBudget):
    """As `MemoryBudget`.

    Args:
        total: bytes.
        seen: gets `budget refused` and `budget pressed`.
    """

    __slots__ = ("_seen",)

    def __init__(self, total: int, seen: Counter[str]) -> None:
        super().__init__(total)
        self._seen = seen

    def is_excessive(self, held: int) -> bool:
        excessive = super().is_excessive(held)
        self._seen["budget pressed"] += excessive
        return excessive

    def reserve(self, n: int, *, held: int) -> bool:
        reserved = super().reserve(n, held=held)
        self._seen["budget refused"] += not reserved
        return reserved
