"""A client's connection: requests are cut out of its bytes and served one after the other, in order.

    NEXT ──head──> BUSY ──finish, persistent──> NEXT        `_activity` is None in NEXT and LEAVING
      │              └────finish, or refused──> LEAVING ──client's FIN, or time──> closed
      └──idle, or FIN──> closed

While a request is served, what the client sends beyond it is held (pipelining), up to a bound; then reading pauses. The
next request is begun when the one before it has been answered and the client has read enough of the answer: there is
never more than one at the service on behalf of a connection, and never more than one response in memory.

LEAVING is a lingering close (RFC 9112 section 9.6): our side is ended and what still comes is thrown away, because a
socket that is closed with unread bytes in it is reset, and the response may be lost with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from typing import Final, cast

from api_server.gateway.core import Activity, GatewayCore
from api_server.gateway.errors import GatewayFullError, HeadTooLargeError, RequestTimeoutError
from api_server.gateway.exchange import Exchange
from api_server.gateway.forwarding import Client
from api_server.gateway.metering import MeteredConnection
from api_server.gateway.problems import problem_response
from api_server.gateway.registry import ConnectionRegistry
from api_server.gateway.requests import RequestReader
from api_server.gateway.timers import NEVER, TimerWheel
from common.errors import HomeportError

__all__ = ["ClientConnection"]

_CR: Final = ord("\r")
_EMPTY_LINES: Final = re.compile(rb"\A(?:\r\n)+")

_LINGER_NOTHING: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: close sends RST and drops what was not sent (socket(7))."""


class ClientConnection(MeteredConnection):
    """One client.

    Args:
        core: the gateway's.
        registry: where the connection enters itself while it lives.
    """

    __slots__ = (
        "_advancing",
        "_ahead",
        "_leaving",
        "_registry",
        "_scanned",
        "_unsent",
        "bucket",
        "deadline",
        "ended",
        "requests",
    )

    requests: RequestReader

    def __init__(self, core: GatewayCore, registry: ConnectionRegistry) -> None:
        super().__init__(core)
        self._registry = registry
        self._advancing = False
        self._ahead = b""
        self._scanned = 0
        self._unsent = 0
        """Bytes that waited for the client at the last deadline."""
        self._leaving = False
        self.ended = False
        """The client will send no more."""
        self.deadline = NEVER
        self.bucket = TimerWheel.UNARMED

    def __repr__(self) -> str:
        state = "leaving" if self._leaving else repr(self._activity) if self._activity is not None else "next request"
        return f"<ClientConnection: {state}, {len(self._ahead)} bytes ahead>"

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self._activity is not None

    @property
    def held(self) -> int:
        """Bytes that are held for the client, either way."""
        busy_with = self._activity.held if self._activity is not None else 0
        return busy_with + len(self._ahead) + self._transport.get_write_buffer_size()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        core = self._core
        limits = core.limits
        self._transport.set_write_buffer_limits(high=limits.high_water_bytes, low=limits.high_water_bytes // 4)
        client = Client(
            _host(transport.get_extra_info("peername")),
            lambda: _host_and_port(transport.get_extra_info("sockname")),
            limits.trusted_proxies,
        )
        self.requests = RequestReader(
            client, core.known_sections, max_target=limits.max_target_bytes, max_fields=limits.max_fields
        )
        self._registry.enter(self)
        core.wheel.arm(self, core.clock.monotonic() + limits.header_timeout)
        if len(self._registry) > limits.max_connections:
            self.refuse(GatewayFullError("the gateway has too many connections", retry_after=1.0))

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self.ticket is not None and self.ticket.paced:
            self._pace(len(data))
        if self._activity is not None:
            self._activity.client_data(data)
        elif not self._leaving:
            if self._ahead:
                self._ahead += data
            else:
                self._ahead = data
            self._advance()

    def eof_received(self) -> bool:
        if not self.ended:  # uvloop tells it again when reading is resumed
            self.ended = True
            if self._activity is not None:
                self._activity.client_eof()
            else:
                self._transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._registry.leave(self)
        self._core.wheel.disarm(self)
        self._leaving = True
        self._ahead = b""
        activity, self._activity = self._activity, None
        if activity is not None:
            activity.client_lost()
        self._settle()

    # Timed

    def due(self, now: float) -> None:
        if self._activity is not None:
            self._activity.due(now)
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:
            # Nothing is under way, but the client is still reading the last response, however slowly. The kernel takes
            # more only when a third of its own buffer is free, so that progress shows in large and rare steps.
            self._unsent = unsent
            self.arm(now + self._core.limits.stream_idle_timeout)
        elif unsent or self._leaving:
            self._transport.abort()
        elif self._ahead:
            limit = self._core.limits.header_timeout
            self.refuse(RequestTimeoutError(f"the request head did not come within {limit:g} s"))
        else:
            self.close()

    # For the activity

    def arm(self, deadline: float) -> None:
        """Call the activity's `due` at that time, unless it is armed anew; seconds, monotonic."""
        self._core.wheel.arm(self, deadline)

    def write_eof(self) -> None:
        """End our side."""
        self._transport.write_eof()

    def take_ahead(self) -> bytes:
        """What the client has sent beyond the head of the activity's request."""
        ahead, self._ahead = self._ahead, b""
        return ahead

    def hold_ahead(self, data: bytes) -> None:
        """Keep bytes that belong to the next request."""
        self._ahead = self._ahead + data if self._ahead else data
        if len(self._ahead) > self._core.limits.max_ahead_bytes:
            self.pause_reading()

    def become(self, activity: Activity) -> None:
        """The connection is busy with something else from now on, which gets all that the client has sent ahead."""
        if self._transport.is_closing():
            return  # the stream was lost at once, and that has been dealt with
        self._activity = activity
        ahead = self.take_ahead()
        if ahead:
            activity.client_data(ahead)
        if self.ended:
            activity.client_eof()
        else:
            self.resume_reading()

    def finish(self, now: float, *, persistent: bool, unread: bool = False) -> None:
        """The response is written.

        Args:
            now: seconds, monotonic.
            persistent: go on with the next request.
            unread: the client is still sending, or may be.
        """
        self._activity = None
        self._settle()
        if not persistent or self._transport.is_closing():
            if unread or self._ahead:
                self._leave()
            else:
                self.close()
            return
        self._scanned = 0
        self.arm(now + self._core.limits.keepalive_timeout)
        self._advance()

    def refuse(self, error: HomeportError, *, realm: str | None = None, head_only: bool = False) -> None:
        """Answer with an error and end the connection."""
        self._activity = None
        self.write_problem(error, close=True, realm=realm, head_only=head_only)
        self._settle()
        self._leave()

    def write_problem(
        self,
        error: HomeportError,
        *,
        close: bool,
        realm: str | None = None,
        head_only: bool = False,
        added: bytes = b"",
        password: bool = True,
    ) -> None:
        """Answer with an error."""
        core = self._core
        core.metrics.errors[error.code] += 1
        core.metrics.responses[error.status] += 1
        now = core.clock.wall()
        if self.ticket is not None:
            self.ticket.status = error.status
        self.write(
            problem_response(
                error, head_only=head_only, close=close, now=now, realm=realm, added=added, password=password
            )
        )

    def close(self) -> None:
        """End the connection once all is sent; a client that does not read it loses it in the end."""
        self._activity = None
        self._settle()
        self._leaving = True
        self.arm(self._core.wheel.now + self._core.limits.keepalive_timeout)
        self._transport.close()

    def reset(self) -> None:
        """Cut the connection, so that the client sees that it was cut."""
        self._activity = None
        self._settle()
        self._leaving = True
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError):  # the kernel may have ended it already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOTHING)
        self._transport.abort()

    # For the gateway

    def retire(self) -> None:
        """The gateway drains: close as soon as nothing is under way."""
        if self._activity is None and not self._leaving:
            self.close()

    def cut(self) -> None:
        """The gateway ends: cut the connection, and let what is under way end as if the client had gone."""
        activity = self._activity
        self.reset()
        if activity is not None:
            activity.client_lost()

    # The next request

    def _advance(self) -> None:
        if self._advancing:
            return  # called from within the loop below: the activity that it began is over already
        self._advancing = True
        try:
            while self._activity is None and self._ahead and not self._leaving and not self._waits:
                head = self._cut_head()
                if head is None:
                    break
                self._begin(head)
        finally:
            self._advancing = False
        if self._activity is not None or self._leaving:
            return
        if self._waits:
            # The client does not read its responses. What it still sends is not read either, beyond a bound.
            if len(self._ahead) > self._core.limits.max_ahead_bytes:
                self.pause_reading()
        elif self.ended:
            self.close()
        else:
            self.resume_reading()

    def _cut_head(self) -> bytes | None:
        """The head at the front of what is ahead, out of it; None if it has not come whole."""
        data = self._ahead
        if data[0] == _CR:
            # RFC 9112 section 2.2: an empty line before a request is to be ignored.
            data = self._ahead = _EMPTY_LINES.sub(b"", data)
            if data in (b"", b"\r"):
                return None
        end = data.find(b"\r\n\r\n", self._scanned) + 4
        limits = self._core.limits
        try:
            if end > limits.max_head_bytes or (end < 4 and len(data) > limits.max_head_bytes):
                raise HeadTooLargeError(f"the request head is longer than {limits.max_head_bytes} bytes")
            if end < 4:
                self.requests.check_start(data)
                if not self._scanned:
                    self.arm(self._core.clock.monotonic() + limits.header_timeout)
                self._scanned = max(1, len(data) - 3)
                return None
        except HomeportError as exc:
            self.refuse(exc)
            return None
        self._scanned = 0
        if end == len(data):
            self._ahead = b""
            return data
        self._ahead = data[end:]
        return data[:end]

    def _begin(self, head: bytes) -> None:
        try:
            request = self.requests.read(head)
        except HomeportError as exc:
            # Where its body ends is not known: nothing that follows can be taken for a request.
            self.refuse(exc, head_only=head.startswith(b"HEAD "))
            return
        exchange = Exchange(self._core, self, request)
        self._activity = exchange
        exchange.begin()

    def _leave(self) -> None:
        """Lingering close."""
        self._activity = None
        self._leaving = True
        self._ahead = b""
        if self.ended or self._transport.is_closing():
            self._transport.close()
            return
        self.arm(self._core.clock.monotonic() + self._core.limits.linger_timeout)
        self._transport.write_eof()
        self.resume_reading()


def _host(name: object) -> str:
    """The address in a socket name; empty for a socket that has none."""
    return str(name[0]) if isinstance(name, tuple) else ""


def _host_and_port(name: object) -> bytes:
    """A socket name as a Host says it (RFC 3986 section 3.2.2)."""
    if not isinstance(name, tuple):
        return b"localhost"
    host = f"[{name[0]}]" if ":" in str(name[0]) else str(name[0])
    return f"{host}:{name[1]}".encode("ascii", "replace")
