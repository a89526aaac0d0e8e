"""Which tunnels are open, and when none is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["LiveTunnels"]

T = TypeVar("T")


class LiveTunnels(Generic[T]):
    """Every tunnel from its opening to its end, also one that the store no longer knows, because it was replaced or
    closed and is saying goodbye. It is what the limit on tunnels counts, and what a drain waits for.
    """

    __slots__ = ("_empty", "_tunnels")

    def __init__(self) -> None:
        self._tunnels: set[T] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._tunnels)

    def __iter__(self) -> Iterator[T]:
        """Those of this moment; the set may change while they are gone through."""
        return iter(tuple(self._tunnels))

    def add(self, tunnel: T) -> None:
        """A tunnel opened."""
        self._tunnels.add(tunnel)
        self._empty.clear()

    def discard(self, tunnel: T) -> None:
        """A tunnel ended; one that is not here is no error."""
        self._tunnels.discard(tunnel)
        if not self._tunnels:
            self._empty.set()

    async def wait_empty(self) -> None:
        """Return once there is none."""
        await self._empty.wait()
