"""What a session tells its caller.

Every stream that appears (by `StreamOpened` or `Session.open_stream`) ends once: by `StreamClosed` or `StreamReset`, or
by our own `Session.reset_stream`, which is answered by no event. After that its id means nothing any more. A caller
that resets a stream while it works through a list of events skips what the list still holds for that id.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "Buffer",
    "DataReceived",
    "Drained",
    "Event",
    "GoAwayCode",
    "GoAwayReceived",
    "Pong",
    "ResetReason",
    "StreamClosed",
    "StreamEnded",
    "StreamEstablished",
    "StreamOpened",
    "StreamReset",
]

Buffer = bytes | bytearray | memoryview


class ResetReason(IntEnum):
    """Why this package itself resets a stream: the codes of `common.tunnel.stream.ResetCode` that a multiplexer needs.

    They travel in the length field of a WindowUpdate with RST. hashicorp/yamux neither reads nor writes it.
    """

    CANCELLED = 0
    FLOW_CONTROL = 2
    """The peer sent more than its window, or granted more than 2^32 - 1."""
    LIMIT = 3
    """A cap on streams is reached."""
    DRAINING = 5
    """We sent GoAway: no new streams."""
    PROTOCOL = 8
    """A frame that the stream's state does not allow: data or FIN after FIN, SYN on a live stream."""


class GoAwayCode(IntEnum):
    """Why a session ends."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream. It is accepted: the ACK goes out with the next `data_to_send`."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamEstablished:
    """The peer's first frame on a stream that we opened: it will be served. Nobody needs to wait for it."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes of a stream, in order; part of a frame, a frame, never more.

    `data` is immutable: bytes, or a view of the input given to `receive_data`. It counts against the peer's window
    until `Session.consumed` is told.
    """

    stream_id: int
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer half-closed: it sends no more on this stream, and may go on receiving."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The stream is over in both directions; what waited to be sent is dropped. The last event of a stream."""

    stream_id: int
    code: int
    """`common.tunnel.stream.ResetCode`, or 0 from peers that know none."""
    by_peer: bool
    """False: the peer violated the protocol on this stream and we reset it (code says how)."""


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """Both halves have ended in order, and our FIN has left. The last event of a stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class Drained:
    """What waits to be sent on the stream fell to the mark given to `Session.notify_drained`."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The peer answered a ping of ours."""

    rtt: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class GoAwayReceived:
    """The peer takes no new streams. With another code than 0 it is about to close the connection."""

    code: int
    """`GoAwayCode`, or any other number that the peer sent."""


Event = (
    StreamOpened
    | StreamEstablished
    | DataReceived
    | StreamEnded
    | StreamReset
    | StreamClosed
    | Drained
    | Pong
    | GoAwayReceived
)
