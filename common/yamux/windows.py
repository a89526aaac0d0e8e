"""Flow control, pure: who may send how much, and how windows grow and shrink under a memory budget."""

from __future__ import annotations

__all__ = ["MemoryBudget"]


class MemoryBudget:
    """Bytes that receive windows may take beyond what the protocol gives to every stream.

    Args:
        total: bytes.
        parent: a budget that must have room too: the process's, for a session's.
    """

    __slots__ = ("_parent", "_total", "_used")

    def __init__(self, total: int, *, parent: MemoryBudget | None = None) -> None:
        self._total = total
        self._used = 0
        self._parent = parent

    @property
    def total(self) -> int:
        """Bytes that may be reserved."""
        return self._total

    @property
    def used(self) -> int:
        """Bytes reserved now."""
        return self._used
