"""Raw forwarding: one TCP connection of a gateway joined to one stream of a device.

Two ends, each of which hands its bytes straight to the other: `ClientEnd.data_received` *is* the stream's `write`, and
`DeviceEnd.data_received` *is* the transport's. What happens once or twice in a stream's life has a method here; what
happens for every chunk has none. A stream costs no task and no timer: its idle timeout is the tunnel's.

    TCP                               stream of the device
    FIN                 ──────>       write_eof
    RST, loss           ──────>       reset
    FIN                 <──────       eof
    RST (SO_LINGER 0)   <──────       reset, loss of the tunnel
    pause_reading       <──────       over the stream's high-water mark
    over the buffer's   ──────>       no more credit to the device
    high-water mark

The connection ends when both directions have, and not before: a client that half-closes still gets its answer. Over TLS
asyncio's transports cannot half-close: there it ends with the first direction that does.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from common.tunnel.stream import ResetCode, Stream
from remote_proxy.internal.leaving import Leavers
from remote_proxy.internal.stalled import StalledClients

__all__ = ["ClientEnd", "DeviceEnd", "reset_transport"]

_LINGER_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing sends RST instead of FIN (socket(7))."""


def reset_transport(transport: asyncio.Transport) -> None:
    """Cut the connection so that its peer sees a reset, not an orderly end. A no-op on one that is closed."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    transport.abort()


class DeviceEnd:
    """The sink of the device's stream. It is made before the stream is, and is silent until there is a `ClientEnd`.

    Args:
        transport: of the client's connection.
        leavers: count what the client has yet to read when the stream is over.
        stalled: watches the client while it is not read from.
    """

    __slots__ = ("client", "data_received", "ended", "leavers", "stalled", "transport")

    def __init__(self, transport: asyncio.Transport, leavers: Leavers, stalled: StalledClients) -> None:
        self.transport = transport
        self.leavers = leavers
        self.stalled = stalled
        self.client: ClientEnd | None = None
        self.ended = False
        """The device will send no more."""
        self.data_received: Callable[[Any], None] = transport.write

    def eof_received(self) -> None:
        self.ended = True
        if self.client is None or self.client.ended or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            reset_transport(self.transport)
        elif left := self.transport.get_write_buffer_size():
            self.leavers.add(self.transport, left)

    def pause_writing(self) -> None:
        self.transport.pause_reading()
        self.stalled.add(self.transport)

    def resume_writing(self) -> None:
        if self.client is None or not self.client.ended:
            self.stalled.discard(self.transport)
        self.transport.resume_reading()


class ClientEnd(asyncio.Protocol):
    """The protocol of the gateway's connection, once the device has accepted.

    Args:
        stream: the device's stream, whose sink is `device`.
        device: the other end.
    """

    __slots__ = ("data_received", "device", "ended", "stream")

    def __init__(self, stream: Stream, device: DeviceEnd) -> None:
        self.stream = stream
        self.device = device
        self.ended = False
        """The client will send no more."""
        self.data_received = stream.write  # type: ignore[method-assign]
        device.client = self

    def eof_received(self) -> bool:
        if not self.ended:  # uvloop tells it once more when reading is resumed after the end
            self.ended = True
            self.stream.write_eof()
            if not self.device.ended:
                self.device.stalled.add_ended(self.device.transport)
        return not self.device.ended  # True keeps the connection open for what the device still sends

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or not (self.ended and self.device.ended):
            self.stream.reset(ResetCode.CANCELLED)
        device = self.device
        device.leavers.discard(device.transport)
        device.stalled.discard(device.transport)
        device.client = None  # which holds it: neither is left to the garbage collector

    def pause_writing(self) -> None:
        self.stream.pause_reading()

    def resume_writing(self) -> None:
        self.stream.resume_reading()
