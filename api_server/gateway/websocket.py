"""Raw TCP over a WebSocket: binary messages are bytes of the connection, their edges mean nothing.

websockets' sans-I/O protocol does handshake and frames. What TCP can say and a WebSocket cannot is mapped thus:

    service's FIN         close 1000: a WebSocket cannot be half-closed, and most that end their side have finished
    service's reset       close 1014 (bad gateway)
    client's close        FIN to the service; what it still sends has nowhere to go
    client's loss         reset
    text messages         close 1003 (unsupported data)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from api_server.gateway.core import GatewayCore
from api_server.gateway.errors import BadRequestError
from api_server.gateway.requests import RequestHead
from api_server.gateway.targets import ServiceStream, StreamSource
from common.tunnel.stream import Buffer, ResetCode

if TYPE_CHECKING:
    from api_server.gateway.connection import ClientConnection

__all__ = ["WebSocketSplice", "WebSocketUpgrade"]

_MAX_MESSAGE: Final = 1024 * 1024
"""Bytes of a message, which is held until it is whole; whoever sends larger ones can as well send smaller ones."""

_SUBPROTOCOLS: Final = (Subprotocol("homeport-tcp"), Subprotocol("binary"))
"""Either may be offered, none need be; `binary` is what websockify's clients offer."""


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return next((known for known in _SUBPROTOCOLS if known in offered), None)


class WebSocketUpgrade:
    """A handshake that is right, and not answered yet.

    Args:
        head: of the request.

    Raises:
        BadRequestError: it is not right.
    """

    __slots__ = ("_protocol", "_response")

    def __init__(self, head: RequestHead) -> None:
        protocol = ServerProtocol(select_subprotocol=_select_subprotocol, max_size=_MAX_MESSAGE)
        protocol.receive_data(head.received)
        events = protocol.events_received()
        if not events or not isinstance(events[0], Request):
            raise BadRequestError("the WebSocket handshake is not one")
        response = protocol.accept(events[0])
        if response.status_code != 101:
            raise BadRequestError("the WebSocket handshake is not one of RFC 6455, version 13")
        self._protocol = protocol
        self._response = response

    def begin(
        self, core: GatewayCore, connection: ClientConnection, stream: ServiceStream, source: StreamSource
    ) -> WebSocketSplice:
        """Answer it, and join the client with the service."""
        self._protocol.send_response(self._response)
        return WebSocketSplice(core, connection, stream, source, self._protocol)


class WebSocketSplice:
    """Joins a WebSocket client and a service; `Activity` to the client's connection, `StreamSink` to the stream.

    Args:
        core: the gateway's.
        connection: the client's.
        stream: the service's.
        source: that it came from.
        protocol: with the handshake done.
    """

    __slots__ = ("_active_at", "_connection", "_core", "_over", "_protocol", "_source", "_stream")

    def __init__(
        self,
        core: GatewayCore,
        connection: ClientConnection,
        stream: ServiceStream,
        source: StreamSource,
        protocol: ServerProtocol,
    ) -> None:
        self._core = core
        self._connection = connection
        self._stream = stream
        self._source = source
        self._protocol = protocol
        self._active_at = core.wheel.now
        """When bytes last flowed, either way."""
        self._over = False
        """The client has been told that it is over, or is gone."""
        self._arm()
        self._flush()

    def __repr__(self) -> str:
        return f"<WebSocketSplice {self._protocol.state.name} of {self._stream!r}>"

    # Activity

    @property
    def held(self) -> int:
        return self._stream.unsent

    def client_data(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)
            if self._over:
                continue
            if event.opcode is Opcode.BINARY or event.opcode is Opcode.CONT:
                self._active_at = self._core.wheel.now
                self._core.metrics.bytes_in += len(event.data)
                self._stream.write(event.data)
            elif event.opcode is Opcode.TEXT:
                self._close(CloseCode.UNSUPPORTED_DATA, "binary messages only")
            elif event.opcode is Opcode.CLOSE:
                self._over = True
                self._retire_stream()
        if not self._over and self._protocol.state is not State.OPEN:
            # These were no frames, or too long ones; the protocol has said so in its close frame.
            self._over = True
            self._stream.reset()
            self._connection.arm(self._core.clock.monotonic() + self._core.limits.linger_timeout)
        self._flush()

    def client_eof(self) -> None:
        self._protocol.receive_eof()
        if not self._over:
            self._over = True
            self._stream.reset()  # without a close frame, the connection broke
        self._connection.close()

    def client_lost(self) -> None:
        if not self._over:
            self._over = True
            self._stream.reset()

    def client_paused(self) -> None:
        self._stream.pause_reading()

    def client_resumed(self) -> None:
        self._stream.resume_reading()

    def due(self, now: float) -> None:
        if self._over:
            self._connection.reset()  # the client does not answer the close
        elif now - self._active_at >= self._core.limits.stream_idle_timeout:
            self._stream.reset(ResetCode.TIMEOUT)
            self._close(CloseCode.GOING_AWAY, "nothing was sent for too long")
        else:
            self._protocol.send_ping(b"")
            self._arm()
        self._flush()

    # StreamSink

    def data_received(self, data: Buffer) -> None:
        if not self._over:
            self._active_at = self._core.wheel.now
            self._protocol.send_binary(data)
            self._flush()

    def eof_received(self) -> None:
        self._stream.write_eof()
        self._close(CloseCode.NORMAL_CLOSURE, "")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._close(CloseCode.BAD_GATEWAY, "the stream was reset")

    def pause_writing(self) -> None:
        self._connection.pause_reading()

    def resume_writing(self) -> None:
        self._connection.resume_reading()

    def _close(self, code: CloseCode, reason: str) -> None:
        """Tell the client that it is over, and give it the time to say that it has understood."""
        if self._over:
            return
        self._over = True
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
        self._connection.arm(self._core.clock.monotonic() + self._core.limits.linger_timeout)
        if code is not CloseCode.NORMAL_CLOSURE:
            self._stream.reset()
        self._flush()

    def _retire_stream(self) -> None:
        """The client has closed in good order: so has the service's connection to be ended."""
        self._source.retire(self._stream, self._core.clock.monotonic())

    def _arm(self) -> None:
        self._connection.arm(self._core.clock.monotonic() + self._core.limits.websocket_ping_interval)

    def _flush(self) -> None:
        """Send what the protocol has to send; it says by an empty buffer that our side of the connection is to end."""
        for data in self._protocol.data_to_send():
            if data:
                self._connection.write(data)
            elif not self._connection.ended:
                self._connection.write_eof()
