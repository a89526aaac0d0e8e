"""The shape of a byte stream, the same on a tunnel, on a socket and through the relay.

It is the shape of an asyncio transport and protocol, cut down to what a forwarder needs, so that an
`asyncio.Protocol` is a sink as it stands and an `asyncio.Transport` is nearly a stream: two ends are joined by passing
each one's callbacks on to the other. It imports no event loop; on trio it is the same.

Back-pressure. A sink whose `data_received` returned has consumed the bytes, unless it called `pause_reading()`: credit
for the bytes delivered while paused is given back at `resume_reading()`. A paused sink may still be handed what the
peer had already been allowed to send, at most one window.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from common.tunnel.errors import StreamLostError

__all__ = ["Buffer", "ResetCode", "Stream", "StreamLostError", "StreamSink"]

Buffer = bytes | bytearray | memoryview


class ResetCode(IntEnum):
    """Why a stream was reset. Carried in the length field of a yamux WindowUpdate with RST, which peers that do not
    know it ignore; such peers send 0.
    """

    CANCELLED = 0
    REFUSED = 1
    FLOW_CONTROL = 2
    LIMIT = 3
    TIMEOUT = 4
    DRAINING = 5
    SESSION_LOST = 6
    INTERNAL = 7
    PROTOCOL = 8


class StreamSink(Protocol):
    """What the owner of a stream implements. No callback may raise or block."""

    def data_received(self, data: Buffer) -> None:
        """Bytes from the peer, in order: bytes, or a memoryview of bytes that are never written again."""

    def eof_received(self) -> object:
        """The peer will send no more; the other direction stays open."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is over, called once: None after both sides ended, else `StreamLostError` or an OSError."""

    def pause_writing(self) -> None:
        """More than the high-water mark waits to be sent: write no more for now."""

    def resume_writing(self) -> None:
        """Write again."""


class Stream(Protocol):
    """One direction each way of bytes to the peer."""

    def write(self, data: Buffer) -> None:
        """Queue `data`, never blocking. The buffer must not be changed afterwards. A no-op once the stream is over."""

    def write_eof(self) -> None:
        """Half-close: no more will be written; reading goes on."""

    def reset(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        """Give the stream up in both directions; `connection_lost` of its sink is called soon, with an error."""

    def pause_reading(self) -> None:
        """Stop giving the peer credit."""

    def resume_reading(self) -> None:
        """Give the credit held back since `pause_reading`, and go on."""
