"""Errors of the multiplexer.

HomeportError
└── YamuxError
    ├── LocalProtocolError            409 yamux_wrong_use       a call that the session's state does not allow
    │   ├── StreamNotOpenError        409 stream_not_open       no such stream, or that half of it is over
    │   ├── SessionClosedError        502 session_closed        the session is over; nothing can be opened or sent
    │   ├── GoneAwayError             503 gone_away             one side sent GoAway: no new streams; dial anew
    │   ├── TooManyStreamsError       503 too_many_streams      `Config.max_streams` is reached
    │   ├── TooManyPendingOpensError  503 too_many_pending      `Config.max_pending_opens` are unanswered
    │   └── StreamIdsExhaustedError   503 stream_ids_exhausted  32 bits of ids are used up; dial anew
    ├── RemoteProtocolError           502 yamux_violation       the peer broke the protocol or a cap of ours
    └── PeerDeadError                 502 peer_dead             not one byte from the peer for `Config.dead_after`

What a peer does wrong on one stream costs that stream only (it is reset, see `StreamReset`); a `RemoteProtocolError` is
what leaves no way to go on: framing lost, roles confused, or a flood.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from common.errors import HomeportError

if TYPE_CHECKING:
    from common.yamux.events import Event

__all__ = [
    "GoneAwayError",
    "LocalProtocolError",
    "PeerDeadError",
    "RemoteProtocolError",
    "SessionClosedError",
    "StreamIdsExhaustedError",
    "StreamNotOpenError",
    "TooManyPendingOpensError",
    "TooManyStreamsError",
    "Violation",
    "YamuxError",
]


class Violation(StrEnum):
    """What a peer did that ended the session."""

    BAD_VERSION = "bad_version"
    """A header with a version other than 0: the framing is lost."""
    BAD_TYPE = "bad_type"
    """A frame type above 3: its length field cannot be understood."""
    BAD_FLAGS = "bad_flags"
    """Flags beyond SYN, ACK, FIN and RST, or ones that contradict each other on that frame."""
    BAD_STREAM_ID = "bad_stream_id"
    """A stream frame on id 0, a session frame on another id, a SYN with an id of our own parity, or a frame for a
    stream that was never opened."""
    PING_FLOOD = "ping_flood"
    """More pings than `Config.pings_per_second` allows."""
    CONTROL_FLOOD = "control_flood"
    """More frames without payload than `Config.control_frames_per_second` allows."""
    CONTROL_QUEUE_FULL = "control_queue_full"
    """The peer makes us answer faster than it reads the answers."""


class YamuxError(HomeportError):
    """Base of the multiplexer's errors."""

    code: ClassVar[str] = "yamux_error"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The multiplexer failed"


class LocalProtocolError(YamuxError):
    """We called a session in a way that its state does not allow; the session is unharmed."""

    code: ClassVar[str] = "yamux_wrong_use"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The session was used wrongly"


class StreamNotOpenError(LocalProtocolError):
    """No such stream, or our half of it is over."""

    code: ClassVar[str] = "stream_not_open"
    title: ClassVar[str] = "The stream is not open"


class SessionClosedError(LocalProtocolError):
    """The session is over."""

    code: ClassVar[str] = "session_closed"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The session is over"


class GoneAwayError(LocalProtocolError):
    """One side sent GoAway: streams that are open go on, new ones need a new session."""

    code: ClassVar[str] = "gone_away"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The session takes no new streams"


class TooManyStreamsError(LocalProtocolError):
    """The session holds as many streams as it may."""

    code: ClassVar[str] = "too_many_streams"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Too many streams"


class TooManyPendingOpensError(LocalProtocolError):
    """The peer has not yet answered as many opens as may wait.

    hashicorp/yamux resets what exceeds its accept backlog (256), so opening more would fail there anyway.
    """

    code: ClassVar[str] = "too_many_pending"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Too many streams await the peer"


class StreamIdsExhaustedError(LocalProtocolError):
    """Ids are not reused, and all of ours are used up."""

    code: ClassVar[str] = "stream_ids_exhausted"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The session has no more stream ids"


class RemoteProtocolError(YamuxError):
    """The peer broke the protocol or flooded us; the session is over.

    A GoAway that says so is already queued: send what `data_to_send` returns, then close the connection.

    Args:
        violation: what kind of violation it was.
        detail: what was seen.
        events: what had been received before it, in order, not yet handed out.
    """

    code: ClassVar[str] = "yamux_violation"
    title: ClassVar[str] = "The peer broke the yamux protocol"

    def __init__(self, violation: Violation, detail: str, *, events: list[Event] | None = None) -> None:
        super().__init__(f"{violation.value}: {detail}")
        self.violation = violation
        self.events: list[Event] = events if events is not None else []


class PeerDeadError(YamuxError):
    """Not one byte from the peer for `Config.dead_after`, though it was probed.

    Args:
        silence: seconds since the last byte.
    """

    code: ClassVar[str] = "peer_dead"
    title: ClassVar[str] = "The peer is dead"

    def __init__(self, silence: float) -> None:
        super().__init__(f"no byte from the peer for {silence:.1f} s")
        self.silence = silence
