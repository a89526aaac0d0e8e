"""The internal port, connection by connection: read the first request's head, then decide whose it is.

    reading the head ──stream request──> opening ──accepted──> spliced (ClientEnd and DeviceEnd)
          │                                 │
          │                                 └──refused──> told why, then closed
          ├──anything else──> the control API (aiohttp), for the rest of the connection's life
          └──no head, too long, too late──> told why, then closed

A refused stream request ends its connection: its sender may have sent the first bytes of the stream right after the
head, and those must never be read as another request.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from common.errors import HomeportError
from common.loopback import send_without_pacing
from common.sessions.errors import OverCapacityError
from common.tunnel.holdings import UNCOUNTED, Holdings
from common.tunnel.interfaces import OpenTicket
from common.tunnel.stream import Stream
from remote_proxy.errors import BadRequestError, HeadTimeoutError, HeadTooLargeError
from remote_proxy.internal.authentication import Authentication
from remote_proxy.internal.codec import Codec, codec_for
from remote_proxy.internal.heads import (
    END_OF_HEAD,
    STREAM_PROTOCOL,
    is_stream_request,
    read_head,
    read_stream_request,
)
from remote_proxy.internal.leaving import Leavers
from remote_proxy.internal.splice import ClientEnd, DeviceEnd
from remote_proxy.internal.stalled import StalledClients
from remote_proxy.store import InMemoryStore
from remote_proxy.tunnels.session import LiveTunnel

__all__ = ["ConnectionLimits", "ConnectionListener", "ListenerStatistics"]

_SWITCHING = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {STREAM_PROTOCOL}\r\n\r\n".encode()

_MAX_EARLY = 64 * 1024
"""Bytes that a client may send ahead of the 101 before it is held."""
_MAX_DISCARDED = 1024 * 1024
"""Bytes that a refused client may still send; read, so that closing does not destroy the answer on its way."""
_DEFAULT_CODEC = codec_for("")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits of a connection whose request is not known yet."""

    max_head: int
    """Bytes."""
    timeout: float
    """Seconds from the connection to the end of the head; and again for a refused client to go."""
    max_pending: int
    """Such connections at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStatistics:
    """The internal port as it is now, and what it refused since the start."""

    pending: int
    refused: int


class ConnectionListener:
    """Protocol factory of the internal port.

    Args:
        store: whose tunnels streams are opened on.
        authentication: the check of the internal key.
        control: makes the protocol of the control API for one connection.
        limits: of connections whose request is not known yet.
        holdings: counts and bounds what the relay holds.
        loop: the running loop.
    """

    def __init__(
        self,
        store: InMemoryStore[LiveTunnel],
        authentication: Authentication,
        control: Callable[[], asyncio.Protocol],
        limits: ConnectionLimits,
        *,
        holdings: Holdings,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.store = store
        self.authentication = authentication
        self.control = control
        self.limits = limits
        self.leavers = Leavers(holdings)
        self.stalled = StalledClients(loop)
        self._loop = loop
        self._pending: dict[_Pending, float] = {}
        """Deadlines. All connections get the same time, so the oldest is the first, and one timer serves all."""
        self._timer: asyncio.TimerHandle | None = None
        self._refused = 0

    def __call__(self) -> asyncio.Protocol:
        return _HeadReader(self)

    def statistics(self) -> ListenerStatistics:
        """For metrics."""
        return ListenerStatistics(pending=len(self._pending), refused=self._refused)

    def abort_pending(self) -> None:
        """Cut the connections that have not said what they want, or were told no: the end of a drain."""
        for connection in list(self._pending):
            connection.transport.abort()

    def watch(self, connection: _Pending) -> bool:
        """Give `connection` until the timeout; False if there are too many already."""
        if len(self._pending) >= self.limits.max_pending:
            return False
        self._pending[connection] = self._loop.time() + self.limits.timeout
        if self._timer is None:
            self._timer = self._loop.call_later(self.limits.timeout, self._sweep)
        return True

    def unwatch(self, connection: _Pending) -> None:
        """The connection said what it wants, or is gone."""
        self._pending.pop(connection, None)

    def refuse(self, transport: asyncio.Transport, error: HomeportError, codec: Codec = _DEFAULT_CODEC) -> None:
        """Answer with a problem and end the connection once the client has read it."""
        self._refused += 1
        body = codec.encode_problem(error)
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
            f"Content-Type: {codec.problem_type}\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n"
        )
        if error.status == HTTPStatus.UNAUTHORIZED:
            head += "WWW-Authenticate: Bearer\r\n"
        if error.status == HTTPStatus.UPGRADE_REQUIRED:
            head += f"Upgrade: {STREAM_PROTOCOL}\r\n"
        if error.retry_after is not None:
            head += f"Retry-After: {math.ceil(error.retry_after)}\r\n"
        transport.write(head.encode() + b"\r\n" + body)
        leaving = _Leaving(self, transport)
        transport.set_protocol(leaving)
        if transport.can_write_eof() and self.watch(leaving):
            transport.write_eof()
        else:
            transport.close()

    def _sweep(self) -> None:
        now = self._loop.time()
        self._timer = None
        for connection, deadline in list(self._pending.items()):
            if deadline > now:
                # At most a quarter of the timeout late, for one wake-up in that time.
                self._timer = self._loop.call_at(max(deadline, now + self.limits.timeout / 4), self._sweep)
                break
            del self._pending[connection]
            connection.expire()


class _Pending(asyncio.Protocol):
    """A connection with a deadline."""

    __slots__ = ("listener", "transport")

    transport: asyncio.Transport

    def __init__(self, listener: ConnectionListener) -> None:
        self.listener = listener

    def expire(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.listener.unwatch(self)


class _HeadReader(_Pending):
    """Collects the head of the first request."""

    __slots__ = ("_buffer",)

    def __init__(self, listener: ConnectionListener) -> None:
        super().__init__(listener)
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        if (sock := transport.get_extra_info("socket")) is not None:
            send_without_pacing(sock, transport.get_extra_info("peername"))
        if not self.listener.watch(self):
            self._refuse(OverCapacityError("too many connections without a request", retry_after=1.0))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        searched = max(0, len(buffer) - len(END_OF_HEAD) + 1)
        buffer += data
        if not searched and not buffer[:1].isalpha():  # a TLS hello, or some other protocol: its head would never end
            self._refuse(BadRequestError("this port speaks HTTP/1.1"))
            return
        end = buffer.find(END_OF_HEAD, searched)
        if end < 0 and len(buffer) <= self.listener.limits.max_head:
            return
        if end < 0 or end > self.listener.limits.max_head:
            self._refuse(HeadTooLargeError(f"the request head is longer than {self.listener.limits.max_head} bytes"))
            return
        self.listener.unwatch(self)
        end += len(END_OF_HEAD)
        received = bytes(buffer)
        if is_stream_request(received[:end]):
            self._open_stream(received[:end], received[end:])
            return
        control = self.listener.control()
        self.transport.set_protocol(control)
        control.connection_made(self.transport)
        control.data_received(received)

    def eof_received(self) -> bool:
        return False

    def expire(self) -> None:
        self._refuse(HeadTimeoutError(f"no request within {self.listener.limits.timeout:g} s"))

    def _open_stream(self, head: bytes, early: bytes) -> None:
        codec = _DEFAULT_CODEC
        try:
            request_head = read_head(head)
            codec = codec_for(request_head.headers.get(b"accept", b"").decode("latin-1"))
            self.listener.authentication.check(request_head.headers.get(b"authorization"))
            request = read_stream_request(request_head)
            tunnel = self.listener.store.lookup_nowait(request.team, request.session_id)
            opening = _Opening(self.listener, self.transport, codec, early)
            opening.ticket = tunnel.open_nowait(request.service, opening.device, request.options, opening.opened)
            self.transport.set_protocol(opening)
        except HomeportError as exc:
            self.listener.refuse(self.transport, exc, codec)

    def _refuse(self, error: HomeportError) -> None:
        self.listener.unwatch(self)
        self.listener.refuse(self.transport, error)


class _Leaving(_Pending):
    """A client that was told no. What it still sends is thrown away, until it closes or its time is up: closing a
    socket with unread bytes in it would reset the connection, and the answer might be lost (RFC 9112 section 9.6).
    """

    __slots__ = ("_discarded",)

    def __init__(self, listener: ConnectionListener, transport: asyncio.Transport) -> None:
        super().__init__(listener)
        self.transport = transport
        self._discarded = 0

    def data_received(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _MAX_DISCARDED:
            self.transport.abort()

    def eof_received(self) -> bool:
        return False

    def expire(self) -> None:
        self.transport.abort()


class _Opening(asyncio.Protocol):
    """A client that waits for the device's answer."""

    __slots__ = ("_codec", "_early", "_ended", "_held", "_listener", "_transport", "device", "ticket")

    ticket: OpenTicket

    def __init__(self, listener: ConnectionListener, transport: asyncio.Transport, codec: Codec, early: bytes) -> None:
        self.device = DeviceEnd(transport, listener.leavers, listener.stalled)
        self._listener = listener
        self._transport = transport
        self._codec = codec
        self._early = bytearray(early)
        self._ended = False
        self._held = False

    def data_received(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > _MAX_EARLY and not self._held:
            self._held = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.ticket.cancel()

    def opened(self, result: Stream | HomeportError) -> None:
        """The device's answer."""
        if isinstance(result, HomeportError):
            if self._held:
                self._transport.resume_reading()
            self._listener.refuse(self._transport, result, self._codec)
            return
        client = ClientEnd(result, self.device)
        # What the client does not take is the stream's to hold back, and to count, rather than this buffer's.
        self._transport.set_write_buffer_limits(high=UNCOUNTED, low=0)
        self._transport.write(_SWITCHING)
        self._transport.set_protocol(client)
        if self._held:
            self._transport.resume_reading()  # before the write, which may well pause it again
        if self._early:
            client.stream.write(self._early)
        if self._ended:
            client.eof_received()
