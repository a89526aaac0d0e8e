"""A stream over one TCP connection of ours: what a stream through the relay and one to a backend have in common.

    CONNECTING ──> (ASKED) ──> OPEN ──both FINs──> CLOSED
                                │
                                └── reset, either way ──> CLOSED

On the wire FIN is a half-close and RST is a reset, in both directions, so that what happened on the other end's socket
is what the client sees. Bytes that come before anyone has asked for them are held here (at most one read of the socket,
which is then paused) until a sink is attached.

A connection over TLS cannot be half-closed with asyncio's transports: there a `write_eof` is kept back until the peer
has ended too, and the peer's end is the end of both directions. Whoever needs half-close end to end needs a connection
without TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Hashable
from enum import Enum
from typing import ClassVar, Final, cast

from common.loopback import send_without_pacing
from common.tunnel.errors import StreamLostError
from common.tunnel.stream import Buffer, ResetCode, StreamSink

__all__ = ["SocketStream", "StreamKey", "StreamPhase"]

_LINGER_NOTHING: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: close sends RST and drops what was not sent (tcp(7), RFC 9293 section 3.10.6)."""

_HIGH_WATER: Final = 256 * 1024
_LOW_WATER: Final = 64 * 1024
"""Bytes queued towards the other end at which the writer is told to pause, and to go on."""

StreamKey = tuple[Hashable, Hashable]
"""Where a stream leads: the place (a session, a host) and what there. Streams with equal keys can stand for one
another."""


class StreamPhase(Enum):
    """Where a stream is in its life."""

    CONNECTING = "connecting"
    ASKED = "asked"
    OPEN = "open"
    CLOSED = "closed"


# A member of an enum is found by a descriptor, which costs more than a look into the module.
_CONNECTING, _ASKED, _OPEN, _CLOSED = StreamPhase


class SocketStream(asyncio.Protocol):
    """One stream; `common.tunnel.Stream` to its user, `asyncio.Protocol` to its socket. Its owner makes the connection.

    Args:
        key: where it leads.
        sink: gets the bytes as soon as the stream is open; None to `attach` one later.
    """

    __slots__ = (
        "_half_closes",
        "_held",
        "_lost",
        "_reading",
        "_received_eof",
        "_reset",
        "_sent_eof",
        "_sink",
        "_transport",
        "_write_paused",
        "idle_since",
        "key",
        "phase",
        "used",
    )

    _was_reset: ClassVar[str] = "the other end reset the stream"

    def __init__(self, key: StreamKey, sink: StreamSink | None = None) -> None:
        self.key = key
        self.phase = _CONNECTING
        self.used = 0
        """How often the stream has served: 0 for a fresh one."""
        self.idle_since = 0.0
        """When the pool got it; seconds, monotonic."""
        self._sink = sink
        self._held: list[Buffer] = []
        self._transport: asyncio.Transport | None = None
        self._half_closes = True
        self._reading = True
        self._received_eof = False
        self._sent_eof = False
        self._write_paused = False
        self._lost: Exception | None = None
        self._reset: ResetCode | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.key[1]} at {self.key[0]}: {self.state}>"

    @property
    def state(self) -> str:
        """How it is, in words."""
        flags = [
            name
            for name, holds in (
                ("received eof", self._received_eof),
                ("sent eof", self._sent_eof),
                ("reset", self._reset is not None),
                ("reading paused", not self._reading),
                ("writing paused", self._write_paused),
            )
            if holds
        ]
        return ", ".join([self.phase.value, f"used {self.used} times", *flags])

    @property
    def reusable(self) -> bool:
        """Whether another request may be written to it: open both ways, nothing held, nothing paused."""
        return (
            self.phase is _OPEN
            and not self._received_eof
            and not self._sent_eof
            and not self._write_paused
            and self._reading
            and self._reset is None
        )

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def count_unacknowledged(self) -> int:
        """Bytes that were written and have not arrived at the other end's host, those in our kernel included. It is a
        system call, for when a deadline has come.
        """
        transport = self._transport
        sock = transport.get_extra_info("socket") if transport is not None else None
        if transport is None or sock is None or sock.fileno() < 0:
            return 0
        queued = int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)  # tcp(7)
        return transport.get_write_buffer_size() + queued

    def attach(self, sink: StreamSink | None) -> None:
        """Make `sink` the receiver of all that comes from now on, and of what was held for it. With None it is held
        until the next one.
        """
        self._sink = sink
        if sink is None or self.reusable:
            return  # there is nothing to catch up on
        if self._held:
            held, self._held = self._held, []
            # First, so that a sink that pauses when it is handed the bytes has the last word.
            self.resume_reading()
            for data in held:
                sink.data_received(data)
        if self._received_eof:
            sink.eof_received()
        if self.phase is _CLOSED:
            sink.connection_lost(self._lost)

    # Stream

    def write(self, data: Buffer) -> None:
        if self.phase is _OPEN and not self._sent_eof:
            assert self._transport is not None
            self._transport.write(data)

    def write_all(self, buffers: list[Buffer]) -> None:
        """Write buffers by one system call, without joining them."""
        if self.phase is _OPEN and not self._sent_eof:
            assert self._transport is not None
            self._transport.writelines(buffers)

    def write_eof(self) -> None:
        if self.phase is not _OPEN or self._sent_eof:
            return
        assert self._transport is not None
        self._sent_eof = True
        if self._half_closes:
            self._transport.write_eof()
        if self._received_eof:
            self._transport.close()

    def end(self) -> None:
        """End a stream on which nothing is under way: with a FIN that the other end has to answer, or, over TLS, by
        closing it.
        """
        if self._half_closes:
            self.write_eof()
        elif self.phase is _OPEN and not self._sent_eof:
            assert self._transport is not None
            self._sent_eof = True
            self._transport.close()

    def reset(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        if self.phase is _CLOSED or self._reset is not None:
            return
        self._reset = code
        transport = self._transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and not transport.is_closing():
            # The kernel may have ended the connection already; then there is nothing left to reset.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOTHING)
        transport.abort()

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            if self._transport is not None and self.phase is not _CLOSED:
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            if self._transport is not None and self.phase is not _CLOSED:
                self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._reset is not None:
            self._transport.abort()
            return
        self._half_closes = self._transport.can_write_eof()
        self._transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            send_without_pacing(sock, transport.get_extra_info("peername"))
        self._connected(self._transport)

    def _connected(self, transport: asyncio.Transport) -> None:  # noqa: ARG002
        """The connection stands."""
        self.phase = _OPEN

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if self.phase is _OPEN:
            if sink is not None:
                sink.data_received(data)
            else:
                self._hold(data)

    def eof_received(self) -> bool:
        if self.phase is _OPEN and not self._received_eof:  # uvloop tells it again when reading is resumed
            self._received_eof = True
            if self._sink is not None:
                self._sink.eof_received()
            if self._sent_eof and self._transport is not None:
                self._transport.close()
        return self.phase is _OPEN and self._half_closes

    def connection_lost(self, exc: Exception | None) -> None:
        was = self.phase
        self.phase = _CLOSED
        self._transport = None
        if was is not _OPEN:
            self._never_opened()
            return
        if self._reset is not None:
            self._lost = StreamLostError(self._reset)
        elif exc is not None or not self._received_eof or (self._half_closes and not self._sent_eof):
            # Over TLS the peer's end is the end of both directions; everywhere else each side ends its own.
            self._lost = StreamLostError(ResetCode.CANCELLED, self._was_reset)
        if self._sink is not None:
            self._sink.connection_lost(self._lost)

    def _never_opened(self) -> None:
        """The connection ended before the stream was open."""

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._sink is not None:
            self._sink.pause_writing()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._sink is not None:
            self._sink.resume_writing()

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self.pause_reading()
