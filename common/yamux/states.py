"""The life of a stream: which frame may be sent and received when, as a table.

A stream is IDLE until a SYN. One that we open is OPENING until the peer's first frame on it, whatever that is: ACK is
not waited for, because hashicorp/yamux sends it when its owner accepts the stream, and never if our FIN came first.
Both OPENING states are what counts against the peer's accept backlog. One that the peer opens is OPEN at once.

Each side ends its half by FIN, after which it may only grant credit or reset. RST ends both halves. A stream whose
halves have both ended is CLOSED and forgotten, with its id.

SEND_FIN happens when the FIN leaves, after the data queued before it, not when the caller asks for it: until then the
stream still sends. SEND_SYN happens when the caller opens.

What the table does not hold is a violation. By us (SEND): `LocalProtocolError`. By the peer (RECEIVE): the stream is
reset with PROTOCOL; except on an IDLE stream, one never opened, which ends the session, since the sides no longer
agree about ids; a RST for one means nothing (the peer gave it up before its SYN had left). A frame for a CLOSED stream
crossed our reset, or is late credit, and means nothing either. A SYN for a CLOSED stream would be a violation too, but
ids are forgotten, and hashicorp/yamux opens streams out of order: it is a new stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

__all__ = ["OPENING_STATES", "RECEIVING_STATES", "SENDING_STATES", "TRANSITIONS", "StreamInput", "StreamState"]


class StreamState(IntEnum):
    """Where a stream is in its life, as this side sees it."""

    IDLE = 0
    OPENING = 1
    """We sent SYN and have heard nothing on it."""
    OPENING_HALF_CLOSED = 2
    """We sent SYN and FIN and have heard nothing on it."""
    OPEN = 3
    HALF_CLOSED_LOCAL = 4
    """We sent FIN; the peer may still send."""
    HALF_CLOSED_REMOTE = 5
    """The peer sent FIN; we may still send."""
    CLOSED = 6


class StreamInput(IntEnum):
    """What happens to a stream. One frame can be several: Data with SYN and FIN is three, in the order below."""

    SEND_SYN = 0
    SEND_WINDOW = 1
    """We grant credit."""
    SEND_DATA = 2
    SEND_FIN = 3
    SEND_RST = 4
    RECEIVE_SYN = 5
    RECEIVE_WINDOW = 6
    """A WindowUpdate, with or without credit, with or without ACK."""
    RECEIVE_DATA = 7
    RECEIVE_FIN = 8
    RECEIVE_RST = 9


_S = StreamState
_I = StreamInput

TRANSITIONS: Mapping[StreamState, Mapping[StreamInput, StreamState]] = MappingProxyType(
    {
        _S.IDLE: {
            _I.SEND_SYN: _S.OPENING,
            _I.RECEIVE_SYN: _S.OPEN,
            _I.RECEIVE_RST: _S.IDLE,
        },
        _S.OPENING: {
            _I.SEND_WINDOW: _S.OPENING,
            _I.SEND_DATA: _S.OPENING,
            _I.SEND_FIN: _S.OPENING_HALF_CLOSED,
            _I.SEND_RST: _S.CLOSED,
            _I.RECEIVE_WINDOW: _S.OPEN,
            _I.RECEIVE_DATA: _S.OPEN,
            _I.RECEIVE_FIN: _S.HALF_CLOSED_REMOTE,
            _I.RECEIVE_RST: _S.CLOSED,
        },
        _S.OPENING_HALF_CLOSED: {
            _I.SEND_WINDOW: _S.OPENING_HALF_CLOSED,
            _I.SEND_RST: _S.CLOSED,
            _I.RECEIVE_WINDOW: _S.HALF_CLOSED_LOCAL,
            _I.RECEIVE_DATA: _S.HALF_CLOSED_LOCAL,
            _I.RECEIVE_FIN: _S.CLOSED,
            _I.RECEIVE_RST: _S.CLOSED,
        },
        _S.OPEN: {
            _I.SEND_WINDOW: _S.OPEN,
            _I.SEND_DATA: _S.OPEN,
            _I.SEND_FIN: _S.HALF_CLOSED_LOCAL,
            _I.SEND_RST: _S.CLOSED,
            _I.RECEIVE_WINDOW: _S.OPEN,
            _I.RECEIVE_DATA: _S.OPEN,
            _I.RECEIVE_FIN: _S.HALF_CLOSED_REMOTE,
            _I.RECEIVE_RST: _S.CLOSED,
        },
        _S.HALF_CLOSED_LOCAL: {
            _I.SEND_WINDOW: _S.HALF_CLOSED_LOCAL,
            _I.SEND_RST: _S.CLOSED,
            _I.RECEIVE_WINDOW: _S.HALF_CLOSED_LOCAL,
            _I.RECEIVE_DATA: _S.HALF_CLOSED_LOCAL,
            _I.RECEIVE_FIN: _S.CLOSED,
            _I.RECEIVE_RST: _S.CLOSED,
        },
        _S.HALF_CLOSED_REMOTE: {
            _I.SEND_DATA: _S.HALF_CLOSED_REMOTE,
            _I.SEND_FIN: _S.CLOSED,
            _I.SEND_RST: _S.CLOSED,
            _I.RECEIVE_WINDOW: _S.HALF_CLOSED_REMOTE,
            _I.RECEIVE_RST: _S.CLOSED,
        },
        _S.CLOSED: {
            _I.SEND_RST: _S.CLOSED,
            _I.RECEIVE_WINDOW: _S.CLOSED,
            _I.RECEIVE_DATA: _S.CLOSED,
            _I.RECEIVE_FIN: _S.CLOSED,
            _I.RECEIVE_RST: _S.CLOSED,
        },
    }
)

OPENING_STATES = frozenset({StreamState.OPENING, StreamState.OPENING_HALF_CLOSED})

SENDING_STATES = frozenset(state for state, row in TRANSITIONS.items() if row.get(StreamInput.SEND_DATA) is state)
"""Those in which we may send, and end."""

RECEIVING_STATES = frozenset(state for state, row in TRANSITIONS.items() if row.get(StreamInput.RECEIVE_DATA) is state)
"""Those in which data may come and changes nothing; CLOSED, where it also means nothing, has no streams to look up."""
