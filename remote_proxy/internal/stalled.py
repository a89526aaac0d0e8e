"""Clients that are held because their device does not read: whether they are still there.

A connection that is not read from is not watched for its end either: a client that resets it would go unnoticed until
the device reads on, and its stream would hold what waits for as long. So those that are held are looked at now and
then. A half-close is not looked for; it comes in its turn.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

__all__ = ["LOOK_EVERY", "StalledClients"]

LOOK_EVERY: Final = 2.0
"""Seconds between two looks. One costs a microsecond a client."""

_CLOSED: Final = 7
"""State of a connection that was reset (linux/net/tcp_states.h)."""


class StalledClients:
    """Looks after connections whose reading is paused.

    Args:
        loop: the running loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._paused: set[asyncio.Transport] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._paused)

    def add(self, transport: asyncio.Transport) -> None:
        """Its reading was paused."""
        self._paused.add(transport)
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_EVERY, self._look)

    def discard(self, transport: asyncio.Transport) -> None:
        """Its reading goes on, or it is gone; one that is not here is no error."""
        self._paused.discard(transport)

    def _look(self) -> None:
        self._timer = None
        for transport in [transport for transport in self._paused if _is_reset(transport)]:
            self._paused.discard(transport)
            transport.abort()
        if self._paused:
            self._timer = self._loop.call_later(LOOK_EVERY, self._look)


def _is_reset(transport: asyncio.Transport) -> bool:
    sock = transport.get_extra_info("socket")
    try:
        # The state is the first byte of struct tcp_info (linux/tcp.h).
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED)
    except OSError:
        return False  # not TCP, or closed by now
