"""Remembers what was made of some bytes, because the same heads come again and again: from a client that polls, from a
script that opens a connection for each request, from a service that answers alike.

Two generations. What is asked for again moves to the young one; at each `turn` the old one goes. So what nobody asks
for is gone after two turns at most (a head may hold a credential, and is not to lie about for long), and no more is
held than twice the bound, however many different heads come.
"""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Memo"]

V = TypeVar("V")


class Memo(Generic[V]):
    """A bounded memory of values by the bytes that they were made of. The values must depend on nothing else.

    Args:
        max_entries: of a generation; when it is full the generations turn.
        max_key: bytes; longer ones are not remembered.
    """

    __slots__ = ("_max_entries", "_max_key", "_old", "_young")

    def __init__(self, *, max_entries: int = 512, max_key: int = 2048) -> None:
        self._max_entries = max_entries
        self._max_key = max_key
        self._young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}

    def get(self, key: bytes) -> V | None:
        """What was remembered of `key`."""
        value = self._young.get(key)
        if value is None and self._old:
            value = self._old.get(key)
            if value is not None:
                self._young[key] = value
        return value

    def put(self, key: bytes, value: V) -> None:
        """Remember `value`."""
        if len(key) <= self._max_key:
            if len(self._young) >= self._max_entries:
                self.turn()
            self._young[key] = value

    def turn(self) -> None:
        """Forget what was not asked for since the last turn but one."""
        self._old = self._young
        self._young = {}
