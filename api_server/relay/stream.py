"""A stream to a device's service, as the gateway holds it: one TCP connection to the relay, raw after the upgrade.

    CONNECTING ──connection_made──> ASKED ──101──> OPEN ──both FINs──> CLOSED
                                      │              │
                                      └── refusal ───┴── reset, either way ──> CLOSED

On the wire FIN is a half-close and RST is a reset, in both directions, so that what happened on the device's socket is
what the client sees. Bytes that the service sends before anyone has asked for them are held here (at most one read of
the socket, which is then paused) until a sink is attached.

A connection over TLS cannot be half-closed with asyncio's transports: there a `write_eof` is kept back until the peer
has ended too. Whoever needs half-close end to end lets gateway and relay meet on a private network without TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios
from enum import Enum
from typing import Final, cast

import httptools

from api_server.relay.problems import error_from_answer
from common.ids import ServiceName, SessionId
from common.loopback import send_without_pacing
from common.sessions.errors import RelayUnavailableError
from common.tunnel.errors import StreamLostError
from common.tunnel.stream import Buffer, ResetCode, StreamSink

__all__ = ["RelayStream", "StreamPhase"]

_LINGER_NOTHING: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: close sends RST and drops what was not sent (tcp(7), RFC 9293 section 3.10.6)."""

_HIGH_WATER: Final = 256 * 1024
_LOW_WATER: Final = 64 * 1024
"""Bytes queued towards the relay at which the writer is told to pause, and to go on."""

_MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer to the open that are read; a problem object has a few hundred."""


class StreamPhase(Enum):
    """Where a stream is in its life."""

    CONNECTING = "connecting"
    ASKED = "asked"
    OPEN = "open"
    CLOSED = "closed"


# A member of an enum is found by a descriptor, which costs more than a look into the module.
_CONNECTING, _ASKED, _OPEN, _CLOSED = StreamPhase


class _Answer:
    """Reads the relay's answer to the open; httptools calls the `on_` methods."""

    __slots__ = ("_parser", "_size", "body", "complete", "content_type", "retry_after")

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._size = 0
        self.body = b""
        self.content_type = ""
        self.retry_after = ""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self.content_type = value.decode("latin-1").strip()
        elif name == b"retry-after":
            self.retry_after = value.decode("latin-1").strip()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True

    @property
    def status(self) -> int:
        return self._parser.get_status_code()

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes of the answer.

        Returns:
            What follows a 101, once it is there; until then None.

        Raises:
            RelayUnavailableError: this is no answer of a relay.
        """
        self._size += len(data)
        # What follows a 101 comes in the same read and may be of any size; only an answer in pieces is counted.
        if len(data) < self._size > _MAX_ANSWER:
            raise RelayUnavailableError("the relay's answer to an open has no end")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if self.status != 101:
                raise RelayUnavailableError(f"the relay answered an open with status {self.status}") from exc
            return data[exc.args[0] :]
        except httptools.HttpParserError as exc:
            raise RelayUnavailableError("the relay's answer to an open is not HTTP/1.1") from exc
        return None


class RelayStream(asyncio.Protocol):
    """One stream; `common.tunnel.Stream` to its user, `asyncio.Protocol` to its socket. Made by the `Forwarder`.

    Args:
        session_id: of the session that it leads to.
        service: of the device.
        request: the head that asks the relay for it, complete.
        answered: resolved with None when the stream is open, or with the error that says why not.
        sink: gets the bytes as soon as the stream is open; None to `attach` one later.
    """

    __slots__ = (
        "_answer",
        "_answered",
        "_half_closes",
        "_held",
        "_lost",
        "_reading",
        "_received_eof",
        "_request",
        "_reset",
        "_sent_eof",
        "_sink",
        "_transport",
        "_write_paused",
        "idle_since",
        "phase",
        "service",
        "session_id",
        "used",
    )

    def __init__(
        self,
        session_id: SessionId,
        service: ServiceName,
        *,
        request: bytes,
        answered: asyncio.Future[None],
        sink: StreamSink | None = None,
    ) -> None:
        self.session_id = session_id
        self.service = service
        self.phase = _CONNECTING
        self.used = 0
        """How often the stream has served: 0 for a fresh one."""
        self.idle_since = 0.0
        """When the pool got it; seconds, monotonic."""
        self._request = request
        self._answered = answered
        self._answer: _Answer | None = _Answer()
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
        state = ", ".join([self.phase.value, f"used {self.used} times", *flags])
        return f"<RelayStream {self.session_id} {self.service}: {state}>"

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
        """Bytes that were written and have not arrived at the relay's host, those in our kernel included. It is a
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
        self.phase = _ASKED
        self._transport.write(self._request)
        self._request = b""

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if self.phase is _OPEN and sink is not None:
            sink.data_received(data)
        elif self.phase is _ASKED:
            self._answer_received(data)
        elif self.phase is _OPEN:
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
            self._refuse(RelayUnavailableError("the relay closed the connection before it answered the open"))
            return
        if self._reset is not None:
            self._lost = StreamLostError(self._reset)
        elif exc is not None or not self._received_eof or (self._half_closes and not self._sent_eof):
            # Over TLS the peer's end is the end of both directions; everywhere else each side ends its own.
            self._lost = StreamLostError(ResetCode.CANCELLED, "the relay reset the stream")
        if self._sink is not None:
            self._sink.connection_lost(self._lost)

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

    def _answer_received(self, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        try:
            early = answer.feed(data)
        except RelayUnavailableError as exc:
            self._refuse(exc)
            self.reset()
            return
        if early is not None:
            self._answer = None
            self.phase = _OPEN
            if not self._answered.done():
                self._answered.set_result(None)
            if early:
                self.data_received(early)
        elif answer.complete:
            self._refuse(error_from_answer(answer.status, answer.content_type, answer.body, answer.retry_after))
            if self._transport is not None:
                self._transport.close()

    def _refuse(self, error: Exception) -> None:
        self._answer = None
        if not self._answered.done():
            self._answered.set_exception(error)
