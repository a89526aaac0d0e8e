"""Two byte streams joined: bytes, half-close, reset and back-pressure of each go to the other.

    data_received   -> other.write
    eof_received    -> other.write_eof        the other direction stays open
    connection_lost -> other.abort            or other.close, when no error ended it
    pause_writing   -> other.pause_reading    and back

An end closes once it has both received and sent the end of its stream.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

__all__ = ["End", "SocketEnd", "join", "show_address"]

_LINGER_ZERO = struct.pack("ii", 1, 0)
"""`SO_LINGER` on, zero seconds: closing sends RST, not FIN (socket(7))."""


class End(Protocol):
    """One of two joined streams: what the other may do with it. No call blocks; after its end, all are no-ops."""

    def attach(self, other: End) -> None:
        """Take `other` for what arrives; nothing is passed on before `start`."""

    def start(self) -> None:
        """Pass on what arrived so far, and everything after it."""

    def write(self, data: bytes) -> None:
        """Send, in order."""

    def write_eof(self) -> None:
        """Send no more; reading goes on."""

    def close(self) -> None:
        """End both directions once everything is sent."""

    def abort(self) -> None:
        """Give both directions up at once, and tell the peer by a reset where that can be done."""

    def pause_reading(self) -> None:
        """Take no more from the peer for now."""

    def resume_reading(self) -> None:
        """Take from the peer again."""


def join(first: End, second: End) -> None:
    """From now on, what comes from one goes to the other."""
    # Both know each other before a byte moves: a write may call back for a pause.
    first.attach(second)
    second.attach(first)
    first.start()
    second.start()


def show_address(address: tuple[str | int, ...]) -> str:
    """A socket address as `host:port`."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


class SocketEnd(asyncio.Protocol):
    """An end that is a TCP connection. Until it is joined it keeps what arrives.

    TLS has no half-close here: over it, the end of either direction ends both, once everything is sent.

    Args:
        on_connected: called with the end itself when its transport is there.
        on_lost: called once when it is over, with the error, if one ended it.
    """

    def __init__(
        self,
        on_connected: Callable[[SocketEnd], None] = lambda _end: None,
        on_lost: Callable[[Exception | None], None] = lambda _exc: None,
    ) -> None:
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._other: End | None = None
        self._early: list[bytes] = []
        self._started = False
        self._held = False
        self._eof_received = False
        self._eof_written = False
        self._lost: Exception | bool = False

    @property
    def peer(self) -> str:
        """The address of the peer, for messages."""
        address = self._transport.get_extra_info("peername") if self._transport is not None else None
        return show_address(address) if address else "a connection that is gone"

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._transport.pause_reading()
        self._on_connected(self)

    def data_received(self, data: bytes) -> None:
        if self._started:
            assert self._other is not None
            self._other.write(data)
        else:
            assert self._transport is not None
            self._early.append(data)
            self._transport.pause_reading()  # again: uvloop starts reading after connection_made, whatever that did

    def eof_received(self) -> bool:
        assert self._transport is not None
        self._eof_received = True
        if self._started:
            assert self._other is not None
            self._other.write_eof()
        return self._transport.can_write_eof() and not self._eof_written

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc or True
        if self._started:
            self._end_other()
        self._on_lost(exc)

    def pause_writing(self) -> None:
        assert self._other is not None
        self._other.pause_reading()

    def resume_writing(self) -> None:
        assert self._other is not None
        self._other.resume_reading()

    def _end_other(self) -> None:
        assert self._other is not None
        if isinstance(self._lost, Exception):
            self._other.abort()
        elif not (self._eof_received and self._eof_written):
            self._other.close()

    # From the other end.

    def attach(self, other: End) -> None:
        self._other = other

    def start(self) -> None:
        assert self._other is not None
        assert self._transport is not None
        self._started = True
        early, self._early = self._early, []
        for data in early:
            self._other.write(data)
        if self._eof_received:
            self._other.write_eof()
        if self._lost:
            self._end_other()
        elif not self._held and not self._transport.is_closing():
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        if not self._lost:
            self._transport.write(data)

    def write_eof(self) -> None:
        assert self._transport is not None
        if self._lost or self._eof_written:
            return
        self._eof_written = True
        if self._eof_received or not self._transport.can_write_eof():
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def abort(self) -> None:
        if self._lost or self._transport is None:
            return
        connection = self._transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def pause_reading(self) -> None:
        self._held = True
        if not self._lost and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._held = False
        if self._started and not self._lost and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
