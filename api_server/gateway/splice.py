"""A client and a service joined byte for byte, once HTTP is over: an upgraded connection, or raw TCP.

client                           service
bytes            ──────>         bytes
FIN              <─────>         FIN
RST, loss        <─────>         reset
full buffer      <─────>         reading paused
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from api_server.gateway.core import GatewayCore
from api_server.gateway.targets import ServiceStream
from common.tunnel.stream import Buffer, ResetCode

if TYPE_CHECKING:
    from api_server.gateway.connection import ClientConnection

__all__ = ["Splice"]


class Splice:
    """Joins the two; `Activity` to the client's connection, `StreamSink` to the stream.

    Args:
        core: the gateway's.
        connection: the client's.
        stream: the service's.
    """

    __slots__ = ("_connection", "_core", "_idle", "_over", "_service_ended", "_stream")

    def __init__(self, core: GatewayCore, connection: ClientConnection, stream: ServiceStream) -> None:
        self._core = core
        self._connection = connection
        self._stream = stream
        self._idle = core.limits.stream_idle_timeout
        self._service_ended = False
        self._over = False
        connection.arm(core.wheel.now + self._idle)
        if connection.write_paused:
            stream.pause_reading()

    def __repr__(self) -> str:
        return f"<Splice of {self._stream!r}>"

    # Activity

    @property
    def held(self) -> int:
        return self._stream.unsent

    def client_data(self, data: bytes) -> None:
        self._core.metrics.bytes_in += len(data)
        self._connection.arm(self._core.wheel.now + self._idle)
        self._stream.write(data)

    def client_eof(self) -> None:
        self._stream.write_eof()
        if self._service_ended:
            self._end()

    def client_lost(self) -> None:
        self._over = True
        self._stream.reset()

    def client_paused(self) -> None:
        self._stream.pause_reading()

    def client_resumed(self) -> None:
        self._stream.resume_reading()

    def due(self, now: float) -> None:  # noqa: ARG002
        self._over = True
        self._stream.reset(ResetCode.TIMEOUT)
        self._connection.reset()

    # StreamSink

    def data_received(self, data: Buffer) -> None:
        if not self._over:
            self._connection.arm(self._core.wheel.now + self._idle)
            self._connection.write(data)

    def eof_received(self) -> None:
        if self._over:
            return
        self._service_ended = True
        if self._connection.ended:
            self._end()
        else:
            self._connection.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._over:
            return
        if exc is None:
            self._end()
        else:
            self._over = True
            self._connection.reset()

    def pause_writing(self) -> None:
        self._connection.pause_reading()

    def resume_writing(self) -> None:
        self._connection.resume_reading()

    def _end(self) -> None:
        """Both sides have ended."""
        self._over = True
        self._connection.close()
