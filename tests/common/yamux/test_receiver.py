"""Bytes to events: whole, byte by byte, cut anywhere, with bytes left over; and what is wrong with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.yamux import (
    Config,
    DataReceived,
    Event,
    GoAwayReceived,
    Pong,
    RemoteProtocolError,
    ResetReason,
    Role,
    Session,
    StreamClosed,
    StreamEnded,
    StreamEstablished,
    StreamOpened,
    StreamReset,
    Violation,
)
from tests.common.yamux.wire import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    INITIAL,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Frame,
    data,
    frame,
    go_away,
    merged,
    payloads,
    ping,
    sent,
    window,
)


def server(config: Config | None = None) -> Session:
    """One whose own stream 2 is open and unanswered."""
    session = Session(Role.SERVER, config or Config(), now=0.0)
    session.open_stream(0.0)
    session.tick(0.0)
    sent(session)
    return session


# Each: what arrives, and what it means.
READINGS: dict[str, tuple[bytes, list[Event]]] = {
    "open": (window(1, flags=SYN), [StreamOpened(1)]),
    "open with data": (data(1, b"hello", SYN), [StreamOpened(1), DataReceived(1, b"hello")]),
    "open, data and end in one": (
        data(1, b"hello", SYN | FIN),
        [StreamOpened(1), DataReceived(1, b"hello"), StreamEnded(1)],
    ),
    "open and end": (window(1, flags=SYN | FIN), [StreamOpened(1), StreamEnded(1)]),
    "open by empty data": (data(1, b"", SYN), [StreamOpened(1)]),
    "open and reset": (window(1, 5, SYN | RST), [StreamOpened(1), StreamReset(1, 5, by_peer=True)]),
    "an ACK": (window(2, flags=ACK), [StreamEstablished(2)]),
    "an ACK with data": (data(2, b"x", ACK), [StreamEstablished(2), DataReceived(2, b"x")]),
    "data before the ACK": (
        data(2, b"x") + window(2, flags=ACK),
        [StreamEstablished(2), DataReceived(2, b"x")],
    ),
    "an end before the ACK": (window(2, flags=FIN), [StreamEstablished(2), StreamEnded(2)]),
    "a second ACK": (window(2, flags=ACK) * 2, [StreamEstablished(2)]),
    "an ACK for a stream of the peer's": (window(1, flags=SYN) + window(1, flags=ACK), [StreamOpened(1)]),
    "a refusal": (window(2, 0, RST), [StreamReset(2, 0, by_peer=True)]),
    "a refusal by data, whose payload is nothing": (data(2, b"rest", RST), [StreamReset(2, 0, by_peer=True)]),
    "credit": (window(2, 1000), [StreamEstablished(2)]),
    "data, end": (
        data(1, b"ab", SYN) + data(1, b"c") + data(1, b"", FIN),
        [StreamOpened(1), DataReceived(1, b"abc"), StreamEnded(1)],
    ),
    "two streams": (
        data(1, b"a", SYN) + data(3, b"b", SYN) + data(1, b"c") + data(3, b"d"),
        [
            StreamOpened(1),
            DataReceived(1, b"a"),
            StreamOpened(3),
            DataReceived(3, b"b"),
            DataReceived(1, b"c"),
            DataReceived(3, b"d"),
        ],
    ),
    "large data": (data(1, bytes(200_000), SYN), [StreamOpened(1), DataReceived(1, bytes(200_000))]),
    "late frames": (
        window(2, 3, RST) + data(2, b"late") + window(2, 9) + window(2, flags=FIN) + window(2, flags=RST),
        [StreamReset(2, 3, by_peer=True)],
    ),
    "a reset for a stream never opened": (window(7, 0, RST) + window(8, 0, RST), []),
    "a ping and an answer nobody asked for": (ping(7) + ping(8, ACK), []),
    "going away": (go_away(0), [GoAwayReceived(0)]),
    "going away for a reason nobody knows": (go_away(77) + go_away(0), [GoAwayReceived(77), GoAwayReceived(0)]),
    "data after the end": (
        data(1, b"a", SYN | FIN) + data(1, b"more") + data(3, b"b", SYN),
        [
            StreamOpened(1),
            DataReceived(1, b"a"),
            StreamEnded(1),
            StreamReset(1, ResetReason.PROTOCOL, by_peer=False),
            StreamOpened(3),
            DataReceived(3, b"b"),
        ],
    ),
    "a second end": (
        window(1, flags=SYN | FIN) + window(1, flags=FIN),
        [StreamOpened(1), StreamEnded(1), StreamReset(1, ResetReason.PROTOCOL, by_peer=False)],
    ),
    "a stream opened twice": (
        data(1, b"a", SYN) + data(1, b"b", SYN) + data(1, b"c"),
        [StreamOpened(1), DataReceived(1, b"a"), StreamReset(1, ResetReason.PROTOCOL, by_peer=False)],
    ),
    "a window overrun": (
        window(1, flags=SYN) + data(1, bytes(INITIAL)) + data(1, b"!") + data(3, b"b", SYN),
        [
            StreamOpened(1),
            DataReceived(1, bytes(INITIAL)),
            StreamReset(1, ResetReason.FLOW_CONTROL, by_peer=False),
            StreamOpened(3),
            DataReceived(3, b"b"),
        ],
    ),
    "a window overrun by the first frame": (
        data(1, bytes(INITIAL + 1), SYN) + data(3, b"b", SYN),
        [
            StreamOpened(1),
            StreamReset(1, ResetReason.FLOW_CONTROL, by_peer=False),
            StreamOpened(3),
            DataReceived(3, b"b"),
        ],
    ),
    "more credit than there can be": (
        window(1, 0xFFFFFFFF, SYN),
        [StreamOpened(1), StreamReset(1, ResetReason.FLOW_CONTROL, by_peer=False)],
    ),
}


@pytest.mark.parametrize("name", READINGS)
class TestReadings:
    def test_whole(self, name: str) -> None:
        stream, events = READINGS[name]
        assert merged(server().receive_data(stream, 0.0)) == events

    def test_byte_by_byte(self, name: str) -> None:
        stream, events = READINGS[name]
        if len(stream) > 1000:
            stream, events = self.abridged(stream, events)
        session = server()
        found: list[Event] = []
        for at in range(len(stream)):
            found += session.receive_data(stream[at : at + 1], 0.0)
        assert merged(found) == events

    def test_with_bytes_left_over(self, name: str) -> None:
        stream, events = READINGS[name]
        session = server()
        more = data(99, b"more", SYN)
        for cut in (1, 11, 12, 13, 15):
            session = server()
            found = session.receive_data(stream + more[:cut], 0.0)
            found += session.receive_data(more[cut:], 0.0)
            assert merged(found) == [*events, StreamOpened(99), DataReceived(99, b"more")]

    def test_any_buffer(self, name: str) -> None:
        stream, events = READINGS[name]
        for kind in (bytes, bytearray, memoryview, lambda whole: memoryview(whole).cast("c")):
            assert merged(server().receive_data(kind(stream), 0.0)) == events

    @staticmethod
    def abridged(stream: bytes, events: list[Event]) -> tuple[bytes, list[Event]]:
        """Long readings byte by byte would only take time: their first frames, as one piece says them."""
        stream = stream[:600]
        return stream, merged(server().receive_data(stream, 0.0))


@given(st.data())
def test_cut_anywhere(draw: st.DataObject) -> None:
    names = draw.draw(
        st.lists(st.sampled_from(["open with data", "ping", "data before the ACK"]), max_size=3, unique=True)
    )
    stream = b"".join(ping(1) if name == "ping" else READINGS[name][0] for name in names)
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    whole = merged(server().receive_data(stream, 0.0))
    session = server()
    found: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += session.receive_data(stream[start:end], 0.0)
    assert merged(found) == whole


def test_payload_is_handed_on_as_it_arrives() -> None:
    session = server()
    stream = data(1, b"abcdef", SYN)
    assert session.receive_data(stream[:14], 0.0) == [StreamOpened(1), DataReceived(1, b"ab")]
    assert session.receive_data(stream[14:17], 0.0) == [DataReceived(1, b"cde")]
    assert session.receive_data(stream[17:], 0.0) == [DataReceived(1, b"f")]


def test_the_end_comes_after_the_payload_of_its_frame() -> None:
    session = server()
    stream = data(1, b"ab", SYN | FIN)
    assert session.receive_data(stream[:13], 0.0) == [StreamOpened(1), DataReceived(1, b"a")]
    assert session.receive_data(stream[13:], 0.0) == [DataReceived(1, b"b"), StreamEnded(1)]


def test_large_payload_is_a_view_and_small_payload_a_copy() -> None:
    session = server()
    stream = data(1, bytes(100_000), SYN) + data(1, b"small")
    opened, large, small = session.receive_data(stream, 0.0)
    assert type(opened) is StreamOpened
    assert type(large) is DataReceived
    assert type(small) is DataReceived
    assert type(large.data) is memoryview
    assert large.data.obj is stream
    assert type(small.data) is bytes
    # So is a part of a large one that comes late in a large input.
    session = server()
    session.receive_data(stream[:100_000], 0.0)
    first, second = session.receive_data(stream[100_000:] + data(3, bytes(200_000), SYN), 0.0)[:2]
    assert type(first) is DataReceived
    assert type(first.data) is bytes
    assert second == DataReceived(1, b"small")


def test_a_reset_of_ours_in_the_middle_of_a_frame() -> None:
    session = server()
    stream = data(1, b"abcdef", SYN | FIN) + data(3, b"x", SYN)
    session.receive_data(stream[:14], 0.0)
    session.reset_stream(1, 1)
    assert session.receive_data(stream[14:], 0.0) == [StreamOpened(3), DataReceived(3, b"x")]
    assert Frame(WINDOW_UPDATE, RST, 1, 1) in sent(session)


def test_credit_lets_what_waits_go() -> None:
    session = server()
    session.send_data(2, bytes(INITIAL + 10))
    assert sum(frame.length for frame in sent(session)) == INITIAL
    session.receive_data(window(2, 4), 0.0)
    assert sent(session) == [Frame(DATA, 0, 2, 4, bytes(4))]
    session.receive_data(window(2, 100, ACK), 0.0)
    assert sent(session) == [Frame(DATA, 0, 2, 6, bytes(6))]


def test_a_peer_that_resets_drops_what_waits() -> None:
    session = server()
    session.send_data(2, bytes(1000))
    session.receive_data(window(2, 1, RST), 0.0)
    assert not session.has_output
    assert session.total_buffered == 0


def test_pings_are_answered_with_their_value() -> None:
    session = server()
    session.receive_data(ping(0) + ping(0xFFFFFFFF), 0.0)
    assert sent(session) == [Frame(PING, ACK, 0, 0), Frame(PING, ACK, 0, 0xFFFFFFFF)]


def test_pongs_measure() -> None:
    session = Session(Role.SERVER, now=0.0)
    session.ping(1.0)
    session.ping(1.5)
    [asked] = sent(session)
    assert session.receive_data(ping(asked.length, ACK), 1.25) == [Pong(0.25)]
    assert session.rtt == 0.25


WRONG: dict[str, tuple[bytes, Violation]] = {
    "another version": (frame(DATA, 0, 1, 0, version=1), Violation.BAD_VERSION),
    "text": (b"HTTP/1.1 400 Bad Request\r\n", Violation.BAD_VERSION),
    "another type": (frame(4, 0, 0, 0), Violation.BAD_TYPE),
    "flags that do not exist": (frame(DATA, 16, 1, 0), Violation.BAD_FLAGS),
    "a stream frame on the session": (frame(WINDOW_UPDATE, SYN, 0, 0), Violation.BAD_STREAM_ID),
    "a session frame on a stream": (frame(PING, SYN, 1, 0), Violation.BAD_STREAM_ID),
    "a SYN with an id of ours": (window(4, flags=SYN), Violation.BAD_STREAM_ID),
    "data on a stream never opened": (data(201, b"x"), Violation.BAD_STREAM_ID),
    "data on a stream of ours, never opened": (data(4, b"x"), Violation.BAD_STREAM_ID),
    "credit on a stream never opened": (window(201, 1), Violation.BAD_STREAM_ID),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("cut", [1, 1000])
def test_violations(name: str, cut: int) -> None:
    wrong, violation = WRONG[name]
    session = server()
    stream = data(101, b"before", SYN) + wrong + data(103, b"after", SYN)
    found: list[Event] = []

    def read() -> None:
        for at in range(0, len(stream), cut):
            found.extend(session.receive_data(stream[at : at + cut], 0.0))

    with pytest.raises(RemoteProtocolError) as caught:
        read()
    assert caught.value.violation is violation
    assert merged(found + caught.value.events) == [StreamOpened(101), DataReceived(101, b"before")]
    # The session is over, says so once, and is deaf.
    assert session.is_closed
    assert sent(session) == [Frame(GO_AWAY, 0, 0, 1)]
    assert session.receive_data(stream, 0.0) == []
    assert not session.has_output
    assert session.stream_count == 0


class TestCaps:
    def test_streams(self) -> None:
        session = server(Config(max_streams=3))
        stream = b"".join(data(n, b"x", SYN) + data(n, b"y") for n in (1, 3, 5, 7))
        events = session.receive_data(stream, 0.0)
        assert [event.stream_id for event in events if type(event) is StreamOpened] == [1, 3]
        assert payloads(events, 5) == b""
        refusals = [frame for frame in sent(session) if frame.flags & RST]
        assert refusals == [Frame(WINDOW_UPDATE, RST, n, ResetReason.LIMIT) for n in (5, 7)]
        assert session.statistics().streams_refused == 2
        session.reset_stream(1)
        assert session.receive_data(window(9, flags=SYN), 0.0) == [StreamOpened(9)]

    def test_unsent_acks(self) -> None:
        session = server(Config(accept_backlog=2))
        events = session.receive_data(b"".join(window(n, flags=SYN) for n in (1, 3, 5)), 0.0)
        assert events == [StreamOpened(1), StreamOpened(3)]
        assert {frame.flags for frame in sent(session)} == {ACK, RST}
        assert session.receive_data(window(7, flags=SYN), 0.0) == [StreamOpened(7)]

    def test_streams_after_our_go_away(self) -> None:
        session = server()
        session.go_away()
        assert session.receive_data(data(1, b"x", SYN) + data(1, b"y") + ping(1), 0.0) == []
        assert sent(session) == [
            Frame(GO_AWAY, 0, 0, 0),
            Frame(WINDOW_UPDATE, RST, 1, ResetReason.DRAINING),
            Frame(PING, ACK, 0, 1),
        ]

    def test_ping_flood(self) -> None:
        session = server(Config(pings_per_second=10, pings_burst=5))
        session.receive_data(ping(1) * 5, 0.0)
        session.receive_data(ping(1) * 5, 1.0)
        with pytest.raises(RemoteProtocolError) as caught:
            session.receive_data(ping(1) * 6, 1.5)
        assert caught.value.violation is Violation.PING_FLOOD

    @pytest.mark.parametrize(
        "nothing", [window(1, 0), data(1, b""), ping(1, ACK), go_away(0), window(1, 0, ACK), window(3, 0, RST)]
    )
    def test_control_flood(self, nothing: bytes) -> None:
        session = server(Config(control_frames_per_second=10, control_frames_burst=100))
        session.receive_data(data(1, b"x", SYN), 0.0)
        session.receive_data(nothing * 100, 0.0)
        with pytest.raises(RemoteProtocolError) as caught:
            session.receive_data(nothing, 0.0)
        assert caught.value.violation is Violation.CONTROL_FLOOD

    def test_frames_with_payload_are_no_control(self) -> None:
        session = server(Config(control_frames_per_second=1, control_frames_burst=1))
        session.receive_data(data(1, b"x", SYN) + data(1, b"x") * 1000, 0.0)

    def test_a_peer_that_asks_and_does_not_read(self) -> None:
        session = server(Config(max_control_queue=1200))
        session.receive_data(ping(1) * 100, 0.0)
        with pytest.raises(RemoteProtocolError) as caught:
            session.receive_data(ping(1), 0.0)
        assert caught.value.violation is Violation.CONTROL_QUEUE_FULL
        assert sent(session) == [Frame(GO_AWAY, 0, 0, 1)]

    def test_a_peer_that_opens_beyond_the_cap_and_does_not_read(self) -> None:
        session = server(Config(max_control_queue=1200, max_streams=1))
        session.receive_data(b"".join(window(n, flags=SYN) for n in range(1, 201, 2)), 0.0)
        with pytest.raises(RemoteProtocolError) as caught:
            session.receive_data(window(201, flags=SYN), 0.0)
        assert caught.value.violation is Violation.CONTROL_QUEUE_FULL

    def test_a_peer_that_reads_may_ask_for_ever(self) -> None:
        session = server(Config(max_control_queue=1200))
        for second in range(1000):
            session.receive_data(ping(second) * 50, float(second))
            assert len(sent(session)) == 50


def test_a_second_fin_closes_at_once() -> None:
    session = server()
    session.send_data(2, b"x")
    session.end_stream(2)
    sent(session)
    assert session.receive_data(window(2, flags=FIN), 0.0) == [StreamEstablished(2), StreamEnded(2), StreamClosed(2)]
    assert session.stream_count == 0
