"""The clients that are connected to one gateway: how many, what they hold, and when the last one is gone.

A connection enters itself when it is made and leaves when it is lost, whatever the reason.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api_server.gateway.connection import ClientConnection

__all__ = ["ConnectionRegistry"]


class ConnectionRegistry:
    """The clients that are connected."""

    __slots__ = ("_connections", "_empty")

    def __init__(self) -> None:
        self._connections: set[ClientConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._connections)

    def enter(self, connection: ClientConnection) -> None:
        """A client has connected."""
        self._connections.add(connection)
        self._empty.clear()

    def leave(self, connection: ClientConnection) -> None:
        """It is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def snapshot(self) -> list[ClientConnection]:
        """Those of this moment."""
        return list(self._connections)

    def occupancy(self) -> tuple[int, int]:
        """How many there are, and how many of them are busy."""
        return len(self._connections), sum(connection.busy for connection in self._connections)

    def held(self) -> int:
        """Bytes that they hold, in all."""
        return sum(connection.held for connection in self._connections)

    async def wait_empty(self) -> None:
        """Return once there is none."""
        await self._empty.wait()
