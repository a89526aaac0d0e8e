"""Clients that nothing is read from: whether they are still there.

    held    its device does not read
    ended   it half-closed, and waits for what its device still has to say

A connection that is not read from is not watched for its end either: a client that resets it would go unnoticed until
the device reads or writes on, and its stream would hold what waits for as long. So both are looked at now and then. The
half-close of one that is held is not looked for; it comes in its turn.

One that ended may have gone altogether: `shutdown` and `close` both send FIN, and nothing else. But the kernel of a
client that closed knows the connection for a minute only (tcp(7), tcp_fin_timeout), and resets it if asked later. So it
is asked, by keep-alive probes (RFC 9293 section 3.8.4); one that waits answers them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

__all__ = ["ASK_EVERY", "LOOK_EVERY", "StalledClients"]

LOOK_EVERY: Final = 2.0
"""Seconds between two looks. One costs a microsecond a client."""

ASK_EVERY: Final = 5
"""Seconds between two probes of a client that half-closed, whole ones."""

_UNANSWERED: Final = 12
"""Probes without an answer after which the kernel takes the client for dead."""

_CLOSED: Final = 7
"""State of a connection that was reset (linux/net/tcp_states.h)."""


class StalledClients:
    """Looks after connections that are not read from.

    Args:
        loop: the running loop.
        ask_every: seconds between two probes of a client that half-closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, ask_every: int = ASK_EVERY) -> None:
        self._loop = loop
        self._ask_every = ask_every
        self._watched: set[asyncio.Transport] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, transport: asyncio.Transport) -> None:
        """It is held."""
        self._watched.add(transport)
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_EVERY, self._look)

    def add_ended(self, transport: asyncio.Transport) -> None:
        """It half-closed; once more is no error."""
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # not TCP, or closed by now
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self._ask_every)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, self._ask_every)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _UNANSWERED)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.add(transport)

    def discard(self, transport: asyncio.Transport) -> None:
        """It is read from again, or is gone; one that is not here is no error."""
        self._watched.discard(transport)

    def _look(self) -> None:
        self._timer = None
        for transport in [transport for transport in self._watched if _is_reset(transport)]:
            self._watched.discard(transport)
            transport.abort()
        if self._watched:
            self._timer = self._loop.call_later(LOOK_EVERY, self._look)


def _is_reset(transport: asyncio.Transport) -> bool:
    sock = transport.get_extra_info("socket")
    try:
        # The state is the first byte of struct tcp_info (linux/tcp.h).
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED)
    except OSError:
        return False  # not TCP, or closed by now
