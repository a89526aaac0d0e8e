"""The WebSocket link: every framing rule of RFC 6455, whole and byte by byte, against a peer of another make."""

from __future__ import annotations

import itertools
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from common.tunnel.interfaces import CloseReason
from common.tunnel.websocket import JOIN_BELOW, MAX_PONGS, SLICE_BELOW, Side, WebSocketLink
from tests.common.tunnel.frames import BINARY, CLOSE, CONTINUATION, KEY, PING, PONG, TEXT, frame, unmask

SIZES = [1, 2, 3, 4, 5, 13, 14, 125, 126, 127, SLICE_BELOW, JOIN_BELOW - 1, JOIN_BELOW, 65_535, 65_536, 200_003]


def key_for(side: Side) -> bytes | None:
    """What a peer of `side` masks with."""
    return KEY if side is Side.SERVER else None


def received(link: WebSocketLink, data: bytes, chunk: int | None = None, now: float = 0.0) -> bytes:
    """Feed bytes, in chunks if asked; the payload that came out."""
    size = chunk or len(data) or 1
    return b"".join(bytes(piece) for i in range(0, len(data), size) for piece in link.receive(data[i : i + size], now))


def sent(link: WebSocketLink) -> bytes:
    return b"".join(map(bytes, link.control_to_send())) if link.has_output else b""


def close_code(data: bytes, side: Side) -> int:
    """The code of the close frame that a link of `side` sent, which must be all it sent."""
    peer = Protocol(CLIENT if side is Side.SERVER else SERVER, state=OPEN)
    peer.receive_data(data)
    assert peer.close_rcvd is not None
    assert [event.opcode for event in peer.events_received()] == [CLOSE]  # type: ignore[union-attr]
    return peer.close_rcvd.code


both_sides = pytest.mark.parametrize("side", list(Side))
whole_and_cut = pytest.mark.parametrize("chunk", [None, 1, 2, 3, 7])


# What may come.


@both_sides
@whole_and_cut
@pytest.mark.parametrize("size", SIZES)
def test_a_message_is_read(side: Side, chunk: int | None, size: int) -> None:
    if chunk is not None and size > 5000:
        chunk = 4099
    payload = os.urandom(size)
    link = WebSocketLink(side)
    data = frame(BINARY, payload, key=key_for(side))
    assert received(link, data + data, chunk) == payload + payload
    assert link.end is None
    assert not link.has_output


@both_sides
def test_a_payload_is_handed_on_before_its_frame_is_whole(side: Side) -> None:
    link = WebSocketLink(side)
    data = frame(BINARY, b"abcdefghij", key=key_for(side))
    assert received(link, data[:-4]) == b"abcdef"
    assert received(link, data[-4:-3]) == b"g"
    assert received(link, data[-3:]) == b"hij"


@both_sides
@given(data=st.data())
def test_messages_cut_anywhere(side: Side, data: st.DataObject) -> None:
    payloads = data.draw(st.lists(st.binary(min_size=1, max_size=300), max_size=8))
    stream = b"".join(frame(BINARY, payload, key=key_for(side)) for payload in payloads)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    link = WebSocketLink(side)
    edges = sorted({0, len(stream), *cuts})
    out = [received(link, stream[a:b]) for a, b in itertools.pairwise(edges)]
    assert b"".join(out) == b"".join(payloads)
    assert link.end is None


@both_sides
@whole_and_cut
def test_fragments_are_one_stream_and_control_frames_may_come_between(side: Side, chunk: int | None) -> None:
    key = key_for(side)
    link = WebSocketLink(side)
    data = (
        frame(BINARY, b"one ", fin=False, key=key)
        + frame(PING, b"?", key=key)
        + frame(CONTINUATION, b"two ", fin=False, key=key)
        + frame(PONG, b"", key=key)
        + frame(CONTINUATION, b"", fin=False, key=key)
        + frame(CONTINUATION, b"three", key=key)
        + frame(BINARY, b".", key=key)
    )
    assert received(link, data, chunk) == b"one two three."
    assert link.end is None


@both_sides
def test_a_payload_that_needs_no_unmasking_is_not_copied(side: Side) -> None:
    payload = os.urandom(100_000)
    data = frame(BINARY, payload, key=key_for(side))
    (piece,) = WebSocketLink(side).receive(data, 0.0)
    if side is Side.CLIENT:
        assert isinstance(piece, memoryview)
        assert piece.obj is data
    else:
        assert isinstance(piece, bytes)
    assert piece == payload


@given(data=st.data())
def test_a_servers_caller_may_read_into_one_buffer_again_and_again(data: st.DataObject) -> None:
    payloads = data.draw(st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=5))
    stream = b"".join(frame(BINARY, payload, key=KEY) + frame(PING, b"?", key=KEY) for payload in payloads)
    size = data.draw(st.integers(1, 2000))
    buffer = bytearray(size)
    link = WebSocketLink(Side.SERVER)
    pieces: list[object] = []
    for start in range(0, len(stream), size):
        chunk = stream[start : start + size]
        buffer[: len(chunk)] = chunk
        pieces += link.receive(memoryview(buffer)[: len(chunk)], 0.0)
        buffer[:] = b"\xff" * size
    assert b"".join(pieces) == b"".join(payloads)  # type: ignore[arg-type]
    assert link.end is None
    assert sent(link) == frame(PONG, b"?") * len(payloads)


def test_a_small_payload_does_not_hold_on_to_the_read_it_came_in() -> None:
    data = frame(BINARY, b"small") + frame(BINARY, bytes(60_000))
    small, large = WebSocketLink(Side.CLIENT).receive(data, 0.0)
    assert type(small) is bytes
    assert isinstance(large, memoryview)


# What may not.

VIOLATIONS = {
    "a reserved bit": (1002, {"opcode": BINARY, "payload": b"x", "reserved": 4}),
    "another reserved bit": (1002, {"opcode": PING, "payload": b"x", "reserved": 1}),
    "a reserved data opcode": (1002, {"opcode": 3, "payload": b"x"}),
    "a reserved control opcode": (1002, {"opcode": 0xB, "payload": b"x"}),
    "a text message": (1003, {"opcode": TEXT, "payload": b"hello"}),
    "a fragment of a text message": (1003, {"opcode": TEXT, "payload": b"hello", "fin": False}),
    "a fragmented ping": (1002, {"opcode": PING, "payload": b"x", "fin": False}),
    "a fragmented close": (1002, {"opcode": CLOSE, "payload": b"\x03\xe8", "fin": False}),
    "a ping of 126 bytes": (1002, {"opcode": PING, "payload": bytes(126)}),
    "a close of 126 bytes": (1002, {"opcode": CLOSE, "payload": b"\x03\xe8" + bytes(124)}),
    "a continuation of nothing": (1002, {"opcode": CONTINUATION, "payload": b"x"}),
    "a 16-bit length that fits in 7 bits": (1002, {"opcode": BINARY, "payload": b"x" * 125, "length_size": 2}),
    "a 64-bit length that fits in 7 bits": (1002, {"opcode": BINARY, "payload": b"x", "length_size": 8}),
    "a 64-bit length that fits in 16 bits": (1002, {"opcode": BINARY, "payload": bytes(65_535), "length_size": 8}),
    "a length of 2**63": (1002, {"opcode": BINARY, "payload": b"x", "length": 2**63, "length_size": 8}),
    "a length over the limit": (1009, {"opcode": BINARY, "payload": b"x", "length": 1_000_001}),
    "a close of one byte": (1002, {"opcode": CLOSE, "payload": b"\x03"}),
    "a close with code 1005": (1002, {"opcode": CLOSE, "payload": struct.pack("!H", 1005)}),
    "a close with code 999": (1002, {"opcode": CLOSE, "payload": struct.pack("!H", 999)}),
    "a close with code 5000": (1002, {"opcode": CLOSE, "payload": struct.pack("!H", 5000)}),
    "a close reason that is not UTF-8": (1007, {"opcode": CLOSE, "payload": b"\x03\xe8\xff"}),
}


@both_sides
@whole_and_cut
@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_refused_with_its_code(side: Side, chunk: int | None, name: str) -> None:
    code, arguments = VIOLATIONS[name]
    if chunk is not None and chunk < 7 and len(arguments.get("payload", b"")) > 1000:  # type: ignore[arg-type]
        chunk = 4099
    key = key_for(side)
    link = WebSocketLink(side, max_frame=1_000_000)
    good = frame(BINARY, b"before", key=key)
    wrong = frame(**arguments, key=key)  # type: ignore[arg-type]
    assert received(link, good + wrong + frame(BINARY, b"after", key=key), chunk) == b"before"
    assert link.end is not None
    assert not link.end.by_peer
    assert link.end.reason in (CloseReason.PROTOCOL_ERROR, CloseReason.LIMIT)
    assert close_code(sent(link), side) == code
    # Nothing is read or answered any more.
    assert received(link, frame(PING, b"?", key=key) + good) == b""
    assert sent(link) == b""


@both_sides
@pytest.mark.parametrize("opcode", [BINARY, PING, CLOSE])
def test_a_mask_on_the_wrong_side_is_refused(side: Side, opcode: int) -> None:
    link = WebSocketLink(side)
    key = None if side is Side.SERVER else KEY
    assert received(link, frame(opcode, b"\x03\xe8", key=key)) == b""
    assert close_code(sent(link), side) == 1002


@both_sides
@pytest.mark.parametrize("first", [0x82, 0x89])
def test_what_is_wrong_in_the_first_bytes_is_refused_before_the_rest_comes(side: Side, first: int) -> None:
    link = WebSocketLink(side)
    received(link, bytes((first | 0x10,)))
    assert link.end is not None
    masked_wrongly = bytes((first, 0x00 if side is Side.SERVER else 0x80))
    link = WebSocketLink(side)
    received(link, masked_wrongly[:1])
    assert link.end is None
    received(link, masked_wrongly[1:])
    assert link.end is not None


@both_sides
@pytest.mark.parametrize("opcode", [BINARY, TEXT])
def test_a_new_message_inside_one_is_refused(side: Side, opcode: int) -> None:
    key = key_for(side)
    link = WebSocketLink(side)
    assert received(link, frame(BINARY, b"one", fin=False, key=key) + frame(opcode, b"two", key=key)) == b"one"
    assert close_code(sent(link), side) == (1002 if opcode == BINARY else 1003)


@both_sides
@given(st.binary(max_size=400), st.integers(1, 50))
def test_no_bytes_raise(side: Side, data: bytes, chunk: int) -> None:
    link = WebSocketLink(side)
    received(link, data, chunk)
    sent(link)


@both_sides
@given(data=st.binary(max_size=200), chunk=st.integers(1, 20))
def test_cutting_changes_nothing(side: Side, data: bytes, chunk: int) -> None:
    whole, cut = WebSocketLink(side), WebSocketLink(side)
    assert received(whole, data) == received(cut, data, chunk)
    assert whole.end == cut.end
    out, other = sent(whole), sent(cut)
    if side is Side.SERVER:
        assert out == other
    else:
        assert len(out) == len(other)  # each masked with a key of its own


# Control frames.


@both_sides
@whole_and_cut
@pytest.mark.parametrize("size", [0, 1, 125])
def test_a_ping_is_answered(side: Side, chunk: int | None, size: int) -> None:
    link = WebSocketLink(side)
    payload = bytes(range(size))
    received(link, frame(PING, payload, key=key_for(side)), chunk)
    out = sent(link)
    if side is Side.SERVER:
        assert out == frame(PONG, payload)
    else:
        assert out[:2] == bytes((0x80 | PONG, 0x80 | size))
        assert unmask(out[6:], out[2:6]) == payload


@both_sides
@pytest.mark.parametrize(
    "what", [{"opcode": PING}, {"opcode": PONG}, {"opcode": BINARY}, {"opcode": BINARY, "fin": False}]
)
def test_a_flood_of_frames_without_payload_is_refused(side: Side, what: dict[str, int]) -> None:
    key = key_for(side)
    link = WebSocketLink(side, frames_per_second=10.0, frames_burst=20)
    one = frame(**what, key=key)  # type: ignore[arg-type]
    rest = frame(CONTINUATION, fin=False, key=key) if what.get("fin") is False else one
    received(link, one + rest * 19, now=100.0)
    assert link.end is None
    # Two seconds later there may be twenty more, and not one beyond.
    received(link, rest * 20, now=102.0)
    assert link.end is None
    sent(link)
    received(link, rest, now=102.0)
    assert link.end is not None
    assert link.end.reason == CloseReason.LIMIT
    assert close_code(sent(link), side) == 1008


def test_data_frames_do_not_count_against_the_limit() -> None:
    link = WebSocketLink(Side.SERVER, frames_per_second=1.0, frames_burst=2)
    assert received(link, frame(BINARY, b"x", key=KEY) * 5000) == b"x" * 5000
    assert link.end is None


@both_sides
def test_pongs_for_a_peer_that_does_not_read_are_bounded(side: Side) -> None:
    link = WebSocketLink(side, frames_burst=10_000)
    received(link, frame(PING, bytes(125), key=key_for(side)) * 10_000)
    assert link.end is None
    assert len(sent(link)) <= MAX_PONGS + 131
    received(link, frame(PING, b"again", key=key_for(side)))
    assert link.has_output


@both_sides
@whole_and_cut
@pytest.mark.parametrize(
    ("close", "reason"),
    [(b"", ""), (Close(1000, "revoked").serialize(), "revoked"), (Close(4001, "ende \xf6").serialize(), "ende \xf6")],
)
def test_the_peers_close_is_answered(side: Side, chunk: int | None, close: bytes, reason: str) -> None:
    key = key_for(side)
    link = WebSocketLink(side)
    data = frame(BINARY, b"last", key=key) + frame(CLOSE, close, key=key) + frame(BINARY, b"late", key=key)
    assert received(link, data, chunk) == b"last"
    assert link.end is not None
    assert link.end.by_peer
    assert link.end.reason == reason
    out = sent(link)
    payload = unmask(out[6:], out[2:6]) if side is Side.CLIENT else out[2:]
    assert payload == close[:2]


@both_sides
@pytest.mark.parametrize(
    ("reason", "violation", "code"),
    [("closed", False, 1000), ("draining", False, 1001), ("replaced", False, 1000), ("protocol_error", True, 1002)],
)
def test_our_close_is_sent_once_and_the_answer_ends_the_link(
    side: Side, reason: str, violation: bool, code: int
) -> None:
    key = key_for(side)
    link = WebSocketLink(side)
    link.close(reason, violation=violation)
    link.close("again")
    out = sent(link)
    assert close_code(out, side) == code
    # Until the answer comes, what the peer had sent is read over, and nothing is answered.
    assert received(link, frame(BINARY, b"late", key=key) + frame(PING, b"?", key=key)) == b""
    assert link.end is None
    assert not link.has_output
    received(link, frame(CLOSE, Close(code, "").serialize(), key=key))
    assert link.end is not None
    assert link.end.by_peer
    assert not link.has_output


@both_sides
def test_a_reason_longer_than_a_close_frame_is_cut(side: Side) -> None:
    link = WebSocketLink(side)
    link.close("x" * 500)
    assert close_code(sent(link), side) == 1000


# Sending, to a peer of another make.


@both_sides
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
def test_what_is_sent_is_one_binary_message(side: Side, size: int, pieces: int) -> None:
    payload = os.urandom(size)
    edges = [size * i // pieces for i in range(pieces + 1)]
    buffers: list[bytes | memoryview | bytearray] = [payload[a:b] for a, b in itertools.pairwise(edges)]
    buffers[0] = memoryview(buffers[0])
    buffers[-1] = bytearray(buffers[-1])
    link = WebSocketLink(side)
    out = b"".join(map(bytes, link.encode(buffers, size)))
    peer = Protocol(CLIENT if side is Side.SERVER else SERVER, state=OPEN)
    peer.receive_data(out)
    (message,) = peer.events_received()
    assert message.opcode == BINARY  # type: ignore[union-attr]
    assert message.fin  # type: ignore[union-attr]
    assert message.data == payload  # type: ignore[union-attr]
    other = WebSocketLink(Side.CLIENT if side is Side.SERVER else Side.SERVER)
    assert received(other, out) == payload


def test_the_server_passes_large_payloads_on_uncopied() -> None:
    header, payload = bytes(12), memoryview(bytes(65_536))
    out = WebSocketLink(Side.SERVER).encode([header, payload], 12 + 65_536)
    assert out[-1] is payload


def test_each_frame_of_a_client_has_a_key_of_its_own() -> None:
    link = WebSocketLink(Side.CLIENT)
    keys = {b"".join(map(bytes, link.encode([b"x"], 1)))[2:6] for _ in range(300)}
    assert len(keys) == 300


def test_states_show_in_the_repr() -> None:
    link = WebSocketLink(Side.SERVER)
    assert repr(link) == "<WebSocketLink server open>"
    link.close("closed")
    assert repr(link) == "<WebSocketLink server closing>"
    link = WebSocketLink(Side.CLIENT)
    link.receive(frame(TEXT, b"x"), 0.0)
    assert repr(link) == "<WebSocketLink client ended: the peer broke WebSocket: a text message>"
