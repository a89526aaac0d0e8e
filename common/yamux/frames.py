"""The header of a frame, 12 bytes, big-endian (yamux spec, "Framing").

    version u8 = 0 | type u8 | flags u16 | stream id u32 | length u32

The first four bytes are read as one word, so that the commonest frame, Data without flags, is the word 0, and one
comparison of integers tells it from every other.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple

from common.yamux.errors import RemoteProtocolError, Violation
from common.yamux.events import Buffer

__all__ = [
    "ALL_FLAGS",
    "HEADER",
    "HEADER_SIZE",
    "MAX_LENGTH",
    "WINDOW_UPDATE_WORD",
    "Flag",
    "FrameType",
    "Header",
    "decode_header",
    "encode_header",
]

HEADER = Struct(">III")
HEADER_SIZE = HEADER.size
MAX_LENGTH = 0xFFFF_FFFF


class FrameType(IntEnum):
    """What a frame is, and so what its length field means."""

    DATA = 0
    """Length: bytes of payload that follow."""
    WINDOW_UPDATE = 1
    """Length: bytes by which the peer may send more; with RST, a code of ours (`ResetReason`)."""
    PING = 2
    """Length: an opaque value that the answer repeats."""
    GO_AWAY = 3
    """Length: `GoAwayCode`."""


class Flag(IntFlag):
    """Bits that go with a frame, any of them together."""

    SYN = 1
    """Opens the stream; on a Ping, asks."""
    ACK = 2
    """Accepts the stream; on a Ping, answers."""
    FIN = 4
    """The sender sends no more on this stream."""
    RST = 8
    """The stream is over in both directions."""


ALL_FLAGS = 15
WINDOW_UPDATE_WORD = FrameType.WINDOW_UPDATE << 16
_TYPES = tuple(FrameType)
# Plain integers where every frame is looked at: arithmetic on an IntFlag is a dozen times slower.
_SYN, _ACK = Flag.SYN.value, Flag.ACK.value


class Header(NamedTuple):
    """A header that this protocol knows; whether the stream's state allows it is another question.

    A tuple, since a frozen dataclass takes a third of the time of `decode_header` to make.
    """

    type: FrameType
    flags: int
    """Of `Flag`."""
    stream_id: int
    length: int


def encode_header(frame_type: FrameType, flags: int, stream_id: int, length: int) -> bytes:
    """The 12 bytes of a header. Arguments must fit their fields."""
    return HEADER.pack(frame_type << 16 | flags, stream_id, length)


def decode_header(data: Buffer, offset: int = 0) -> Header:
    """Read the header at `offset`, of which all 12 bytes must be there.

    Raises:
        RemoteProtocolError: version, type or flags that the protocol does not have, or a Ping or GoAway whose stream id
            or flags contradict its type.
    """
    word, stream_id, length = HEADER.unpack_from(data, offset)
    if word >> 24:
        raise RemoteProtocolError(Violation.BAD_VERSION, f"a frame of version {word >> 24}, not 0")
    number = word >> 16
    if number >= len(_TYPES):
        raise RemoteProtocolError(Violation.BAD_TYPE, f"a frame of type {number}, which does not exist")
    frame_type = _TYPES[number]
    flags = word & 0xFFFF
    if flags > ALL_FLAGS:
        raise RemoteProtocolError(Violation.BAD_FLAGS, f"flags {flags:#06x}, of which some do not exist")
    if frame_type is FrameType.DATA or frame_type is FrameType.WINDOW_UPDATE:
        if not stream_id:
            raise RemoteProtocolError(Violation.BAD_STREAM_ID, f"a {frame_type.name} on the session, not on a stream")
    elif stream_id:
        raise RemoteProtocolError(
            Violation.BAD_STREAM_ID, f"a {frame_type.name} on stream {stream_id}, not on the session"
        )
    elif frame_type is FrameType.PING:
        if flags not in (_SYN, _ACK):
            raise RemoteProtocolError(Violation.BAD_FLAGS, f"a PING with flags {flags:#x}: neither asks nor answers")
    elif flags:
        raise RemoteProtocolError(Violation.BAD_FLAGS, f"a GO_AWAY with flags {flags:#x}")
    return Header(frame_type, flags, stream_id, length)
