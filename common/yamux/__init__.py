"""yamux, sans-I/O: many streams over one ordered byte stream.

Wire-compatible with hashicorp/yamux. `Session` is the whole interface; the rest is what it takes and gives.
"""

from common.yamux.config import INITIAL_WINDOW, Config, Role
from common.yamux.errors import (
    GoneAwayError,
    LocalProtocolError,
    PeerDeadError,
    RemoteProtocolError,
    SessionClosedError,
    StreamIdsExhaustedError,
    StreamNotOpenError,
    TooManyPendingOpensError,
    TooManyStreamsError,
    Violation,
    YamuxError,
)
from common.yamux.events import (
    Buffer,
    DataReceived,
    Drained,
    Event,
    GoAwayCode,
    GoAwayReceived,
    Pong,
    ResetReason,
    StreamClosed,
    StreamEnded,
    StreamEstablished,
    StreamOpened,
    StreamReset,
)
from common.yamux.session import Session, SessionStatistics
from common.yamux.windows import MemoryBudget

__all__ = [
    "INITIAL_WINDOW",
    "Buffer",
    "Config",
    "DataReceived",
    "Drained",
    "Event",
    "GoAwayCode",
    "GoAwayReceived",
    "GoneAwayError",
    "LocalProtocolError",
    "MemoryBudget",
    "PeerDeadError",
    "Pong",
    "RemoteProtocolError",
    "ResetReason",
    "Role",
    "Session",
    "SessionClosedError",
    "SessionStatistics",
    "StreamClosed",
    "StreamEnded",
    "StreamEstablished",
    "StreamIdsExhaustedError",
    "StreamNotOpenError",
    "StreamOpened",
    "StreamReset",
    "TooManyPendingOpensError",
    "TooManyStreamsError",
    "Violation",
    "YamuxError",
]
