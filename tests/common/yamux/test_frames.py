"""The header codec."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.yamux import RemoteProtocolError, Violation
from common.yamux.frames import Flag, FrameType, Header, decode_header, encode_header
from tests.common.yamux.wire import frame

U32 = st.integers(0, 0xFFFF_FFFF)


def test_layout() -> None:
    # Offsets and byte order of the specification, by hand.
    assert encode_header(FrameType.WINDOW_UPDATE, Flag.SYN | Flag.FIN, 0x01020304, 0x0A0B0C0D) == bytes(
        [0, 1, 0, 5, 1, 2, 3, 4, 10, 11, 12, 13]
    )
    assert encode_header(FrameType.GO_AWAY, 0, 0, 2) == bytes([0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2])


@given(st.sampled_from([FrameType.DATA, FrameType.WINDOW_UPDATE]), st.integers(0, 15), st.integers(1, 0xFFFFFFFF), U32)
def test_stream_frames_round_trip(frame_type: FrameType, flags: int, stream_id: int, length: int) -> None:
    encoded = encode_header(frame_type, flags, stream_id, length)
    assert encoded == frame(frame_type, flags, stream_id, length)
    assert decode_header(encoded) == Header(frame_type, Flag(flags), stream_id, length)


@given(st.sampled_from([Flag.SYN, Flag.ACK]), U32)
def test_pings_round_trip(flags: Flag, value: int) -> None:
    assert decode_header(encode_header(FrameType.PING, flags, 0, value)) == Header(FrameType.PING, flags, 0, value)


def test_a_header_is_read_where_it_is() -> None:
    data = b"before" + frame(0, 0, 7, 1) + b"after"
    for kind in (bytes, bytearray, memoryview):
        assert decode_header(kind(data), 6) == Header(FrameType.DATA, Flag(0), 7, 1)


@pytest.mark.parametrize(
    ("header", "violation"),
    [
        (frame(0, 0, 1, 0, version=1), Violation.BAD_VERSION),
        (frame(0, 0, 1, 0, version=255), Violation.BAD_VERSION),
        (frame(4, 0, 1, 0), Violation.BAD_TYPE),
        (frame(255, 0, 1, 0), Violation.BAD_TYPE),
        (frame(0, 16, 1, 0), Violation.BAD_FLAGS),
        (frame(1, 0x8000, 1, 0), Violation.BAD_FLAGS),
        (frame(0, 0, 0, 0), Violation.BAD_STREAM_ID),
        (frame(0, 1, 0, 0), Violation.BAD_STREAM_ID),  # SYN on the session
        (frame(1, 0, 0, 5), Violation.BAD_STREAM_ID),
        (frame(2, 1, 3, 0), Violation.BAD_STREAM_ID),  # Ping with an id
        (frame(3, 0, 2, 0), Violation.BAD_STREAM_ID),
        (frame(2, 0, 0, 0), Violation.BAD_FLAGS),  # neither asks nor answers
        (frame(2, 3, 0, 0), Violation.BAD_FLAGS),  # both
        (frame(2, 4, 0, 0), Violation.BAD_FLAGS),
        (frame(3, 1, 0, 0), Violation.BAD_FLAGS),
    ],
)
def test_what_the_protocol_does_not_have(header: bytes, violation: Violation) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_header(header)
    assert caught.value.violation is violation
    assert caught.value.detail.startswith(violation.value)


@given(st.binary(min_size=12, max_size=12))
@example(b"\0" * 12)
def test_any_twelve_bytes_are_a_header_or_a_violation(data: bytes) -> None:
    try:
        header = decode_header(data)
    except RemoteProtocolError:
        return
    assert encode_header(header.type, header.flags, header.stream_id, header.length) == data
