"""Connections of clients that have yet to read the end of a stream that is over.

The tunnel's stream has ended both ways, so nothing else knows of what waits here any more; a client that never reads it
would keep it for ever. It stays counted, and is given up like a stream when the relay holds too much.
"""

from __future__ import annotations

import asyncio

from common.tunnel.holdings import UNCOUNTED, Holdings

__all__ = ["Leavers"]


class Leavers:
    """Implements `common.tunnel.holdings.Holder`.

    Args:
        holdings: of the relay.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._waiting: dict[asyncio.Transport, int] = {}
        self._held = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, transport: asyncio.Transport, size: int) -> None:
        """The stream is over, and `size` bytes of it wait for the client."""
        self._waiting[transport] = size
        self._change(size)

    def discard(self, transport: asyncio.Transport) -> None:
        """The connection is gone; one that is not here is no error."""
        self._change(-self._waiting.pop(transport, 0))

    def shed(self) -> bool:
        if not self._waiting:
            return False
        transport = max(self._waiting, key=self._waiting.__getitem__)
        self.discard(transport)
        transport.abort()
        return True

    def _change(self, size: int) -> None:
        if size:
            self._held += size
            self._holdings.report(self, self._held if self._held > UNCOUNTED else 0)
