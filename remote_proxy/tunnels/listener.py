"""The tunnel port's bound on connections that are no tunnel yet."""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec

from common.sessions.errors import OverCapacityError
from common.tunnel.on_asyncio import TunnelListener

__all__ = ["BoundedListener"]


class BoundedListener:
    """Protocol factory of the tunnel port. Beyond `max_pending` handshakes under way, a new connection is told 503 and
    closed before a byte of it is read, so that slow heads cost a fixed amount of memory.

    Args:
        listener: makes the protocols of the others.
        max_pending: handshakes under way at a time.
    """

    def __init__(self, listener: TunnelListener, *, max_pending: int) -> None:
        self._listener = listener
        self._max_pending = max_pending
        self.refused = 0
        """Connections turned away so far."""

    @property
    def pending(self) -> int:
        """Handshakes under way."""
        return self._listener.handshaking

    def __call__(self) -> asyncio.Protocol:
        if self._listener.handshaking < self._max_pending:
            return self._listener()
        self.refused += 1
        return _Overloaded()


class _Overloaded(asyncio.Protocol):
    """Says 503 and leaves."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        accepted = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        accepted.write(_ANSWER)
        accepted.close()


def _answer() -> bytes:
    body = msgspec.json.encode(OverCapacityError("too many handshakes are under way").problem())
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Retry-After: 1\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


_ANSWER = _answer()
