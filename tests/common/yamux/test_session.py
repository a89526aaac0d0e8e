"""The session as its caller sees it."""

from __future__ import annotations

import pytest

from common.yamux import (
    Config,
    DataReceived,
    Drained,
    GoAwayReceived,
    GoneAwayError,
    LocalProtocolError,
    MemoryBudget,
    PeerDeadError,
    RemoteProtocolError,
    Role,
    Session,
    SessionClosedError,
    StreamClosed,
    StreamEnded,
    StreamEstablished,
    StreamNotOpenError,
    StreamOpened,
    StreamReset,
    TooManyPendingOpensError,
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
    joined,
    payloads,
    pump,
    sent,
    window,
)

MIB = 1 << 20


def pair(config: Config | None = None) -> tuple[Session, Session]:
    config = config or Config()
    return Session(Role.CLIENT, config, now=0.0), Session(Role.SERVER, config, now=0.0)


class TestALife:
    def test_a_request_and_its_answer(self) -> None:
        client, server = pair()
        stream_id = client.open_stream(0.0)
        client.send_data(stream_id, b"question")
        client.end_stream(stream_id)
        assert server.receive_data(joined(client.data_to_send(65536)), 0.0) == [
            StreamOpened(1),
            DataReceived(1, b"question"),
            StreamEnded(1),
        ]
        server.send_data(1, b"answer")
        server.end_stream(1)
        assert client.receive_data(joined(server.data_to_send(65536)), 0.0) == [
            StreamEstablished(1),
            DataReceived(1, b"answer"),
            StreamEnded(1),
            StreamClosed(1),
        ]
        assert server.events() == [StreamClosed(1)]
        assert server.events() == []
        assert client.stream_count == server.stream_count == 0

    def test_on_the_wire(self) -> None:
        session = Session(Role.CLIENT, now=0.0)
        stream_id = session.open_stream(0.0)
        session.send_data(stream_id, b"hello")
        session.end_stream(stream_id)
        assert sent(session) == [
            Frame(WINDOW_UPDATE, SYN, 1, 0),
            Frame(DATA, 0, 1, 5, b"hello"),
            Frame(WINDOW_UPDATE, FIN, 1, 0),
        ]
        session = Session(Role.SERVER, now=0.0)
        session.receive_data(window(1, flags=SYN), 0.0)
        session.send_data(1, b"hello")
        assert sent(session) == [Frame(WINDOW_UPDATE, ACK, 1, 0), Frame(DATA, 0, 1, 5, b"hello")]

    def test_a_reset_crosses(self) -> None:
        client, server = pair()
        stream_id = client.open_stream(0.0)
        client.send_data(stream_id, b"x")
        pump(client, server)
        server.send_data(1, bytes(MIB))
        server.reset_stream(1, 4)
        assert pump(client, server) == ([StreamReset(1, 4, by_peer=True)], [])
        assert client.stream_count == server.stream_count == 0

    def test_resets_that_cross_are_one(self) -> None:
        client, server = pair()
        stream_id = client.open_stream(0.0)
        pump(client, server)
        client.reset_stream(stream_id, 1)
        server.reset_stream(stream_id, 2)
        assert pump(client, server) == ([], [])

    def test_one_that_is_reset_before_it_was_announced_never_was(self) -> None:
        client, server = pair()
        client.reset_stream(client.open_stream(0.0))
        stream_id = client.open_stream(0.0)
        assert pump(client, server)[1] == [StreamOpened(stream_id)]
        assert stream_id == 3

    def test_late_frames_after_our_reset_mean_nothing(self) -> None:
        client, server = pair()
        stream_id = client.open_stream(0.0)
        pump(client, server)
        server.send_data(stream_id, bytes(1000))
        server.end_stream(stream_id)
        on_the_way = joined(server.data_to_send(65536))
        client.reset_stream(stream_id)
        assert client.receive_data(on_the_way, 0.0) == []


class TestSending:
    def test_what_is_buffered(self) -> None:
        client, server = pair()
        stream_id = client.open_stream(0.0)
        client.send_data(stream_id, bytes(INITIAL))
        client.send_data(stream_id, bytes(10))
        assert client.buffered(stream_id) == client.total_buffered == INITIAL + 10
        pump(client, server)
        assert client.buffered(stream_id) == client.total_buffered == 10
        client.reset_stream(stream_id)
        assert client.buffered(stream_id) == client.total_buffered == 0

    def test_nothing_is_sent_for_nothing(self) -> None:
        client, server = pair()
        stream_id = client.open_stream(0.0)
        pump(client, server)
        client.send_data(stream_id, b"")
        assert not client.has_output

    @pytest.mark.parametrize("content", [bytearray(b"ab\0\0"), memoryview(b"ab\0\0"), memoryview(b"ab\0\0").cast("H")])
    def test_any_buffer(self, content: bytearray | memoryview) -> None:
        client, server = pair()
        client.send_data(client.open_stream(0.0), content)
        assert payloads(pump(client, server)[1], 1) == b"ab\0\0"

    def test_a_drained_event_when_the_mark_is_reached(self) -> None:
        client, _ = pair()
        stream_id = client.open_stream(0.0)
        client.send_data(stream_id, bytes(3 * 65536))
        client.notify_drained(stream_id, 65536)
        client.data_to_send(65536)
        assert client.events() == []
        client.data_to_send(65536)
        assert client.events() == [Drained(stream_id)]

    def test_a_drained_event_at_once_when_it_is_so(self) -> None:
        client, _ = pair()
        stream_id = client.open_stream(0.0)
        client.notify_drained(stream_id, 0)
        assert client.events() == [Drained(stream_id)]
        client.notify_drained(99, 0)
        assert client.events() == []

    def test_no_event_about_a_stream_that_is_over(self) -> None:
        client, server = pair()
        stream_id = client.open_stream(0.0)
        client.send_data(stream_id, b"x")
        client.notify_drained(stream_id, 0)
        data_ = joined(client.data_to_send(65536))
        server.receive_data(data_, 0.0)
        server.reset_stream(stream_id)
        assert client.receive_data(joined(server.data_to_send(65536)), 0.0) == [StreamReset(stream_id, 0, by_peer=True)]
        assert client.events() == []

    def test_wrong_use(self) -> None:
        client, server = pair()
        stream_id = client.open_stream(0.0)
        client.send_data(stream_id, bytes(10))
        client.end_stream(stream_id)
        for wrong in (
            lambda: client.send_data(stream_id, b"x"),
            lambda: client.end_stream(stream_id),
            lambda: client.send_data(99, b"x"),
            lambda: client.end_stream(99),
        ):
            with pytest.raises(StreamNotOpenError):
                wrong()
        pump(client, server)
        with pytest.raises(StreamNotOpenError, match="stream 1 "):
            client.send_data(stream_id, b"x")
        assert not client.is_closed


class TestReceiving:
    def test_credit_is_given_for_what_was_consumed(self) -> None:
        client, server = pair()
        client.send_data(client.open_stream(0.0), bytes(2 * INITIAL))
        _, events = pump(client, server)
        assert len(payloads(events, 1)) == INITIAL
        server.consumed(1, INITIAL // 2 - 1, 100.0)
        assert not server.has_output
        server.consumed(1, 1, 100.0)
        assert sent(server) == [Frame(WINDOW_UPDATE, 0, 1, INITIAL // 2)]
        server.consumed(1, INITIAL // 2, 200.0)
        server.consumed(1, 0, 200.0)
        assert sent(server) == [Frame(WINDOW_UPDATE, 0, 1, INITIAL // 2)]

    def test_a_window_that_keeps_all_of_its_credit_has_nothing_to_send(self) -> None:
        """Above its share of a budget under pressure it shrinks by what it owes; output was promised, and none came."""
        budget = MemoryBudget(2 * MIB)
        server = Session(Role.SERVER, Config(initial_window=MIB), now=0.0, budget=budget)
        server.receive_data(data(1, bytes(INITIAL), SYN), 0.0)
        assert sent(server) == [Frame(WINDOW_UPDATE, ACK, 1, MIB - INITIAL)]
        assert budget.reserve(900 * 1024, held=0)
        assert budget.is_excessive(MIB - INITIAL)
        server.consumed(1, INITIAL, 0.0)
        assert server.statistics().window_reserved == MIB - 2 * INITIAL, "it kept all"
        assert not server.has_output
        assert sent(server) == []

    def test_nothing_is_granted_to_a_peer_that_has_ended(self) -> None:
        client, server = pair()
        stream_id = client.open_stream(0.0)
        client.send_data(stream_id, bytes(INITIAL))
        client.end_stream(stream_id)
        pump(client, server)
        server.consumed(stream_id, INITIAL, 0.0)
        assert not server.has_output

    def test_more_than_was_received(self) -> None:
        client, server = pair()
        client.send_data(client.open_stream(0.0), bytes(10))
        pump(client, server)
        with pytest.raises(LocalProtocolError, match="11 bytes consumed, but 10"):
            server.consumed(1, 11, 0.0)
        server.consumed(1, 10, 0.0)

    def test_part_of_a_frame_can_be_consumed_before_its_rest_came(self) -> None:
        server = Session(Role.SERVER, now=0.0)
        stream = data(1, bytes(100), SYN)
        server.receive_data(stream[:62], 0.0)
        with pytest.raises(LocalProtocolError):
            server.consumed(1, 51, 0.0)
        server.consumed(1, 50, 0.0)

    def test_late_consumption_is_no_mistake(self) -> None:
        client, server = pair()
        client.send_data(client.open_stream(0.0), bytes(10))
        pump(client, server)
        server.reset_stream(1)
        server.consumed(1, 10, 0.0)

    def test_the_initial_window_is_on_the_syn_and_on_the_ack(self) -> None:
        client, server = pair(Config(initial_window=MIB))
        client.open_stream(0.0)
        syn = sent(client)
        assert syn == [Frame(WINDOW_UPDATE, SYN, 1, MIB - INITIAL)]
        server.receive_data(window(1, MIB - INITIAL, SYN), 0.0)
        assert sent(server) == [Frame(WINDOW_UPDATE, ACK, 1, MIB - INITIAL)]
        server.send_data(1, bytes(2 * MIB))
        assert sum(frame.length for frame in sent(server)) == MIB

    def test_a_window_grows_with_the_round_trip_that_was_measured(self) -> None:
        client, server = pair()
        server.ping(0.0)
        client.receive_data(joined(server.data_to_send(1 << 20)), 0.0)
        server.receive_data(joined(client.data_to_send(1 << 20)), 0.1)
        assert server.rtt == 0.1
        stream_id = client.open_stream(0.1)
        client.send_data(stream_id, bytes(INITIAL))
        pump(client, server, 0.15)
        server.consumed(stream_id, INITIAL // 2, 0.2)
        assert sent(server)[-1].length == INITIAL // 2
        server.consumed(stream_id, INITIAL // 2, 0.25)
        assert sent(server)[-1].length == INITIAL // 2 + INITIAL
        assert server.statistics().window_reserved == INITIAL


class TestEnds:
    def test_close_drops_everything_and_gives_back(self) -> None:
        budget = MemoryBudget(1 << 30)
        session = Session(Role.CLIENT, Config(initial_window=MIB), now=0.0, budget=budget)
        stream_id = session.open_stream(0.0)
        session.send_data(stream_id, bytes(1000))
        session.ping(0.0)
        session.notify_drained(stream_id, 2000)
        assert budget.used
        session.close()
        session.close()
        assert budget.used == 0
        assert session.is_closed
        assert not session.may_open
        assert not session.has_output
        assert session.data_to_send(65536) == []
        assert session.events() == []
        assert session.total_buffered == 0
        assert session.tick(100.0) is None
        with pytest.raises(SessionClosedError):
            session.open_stream(0.0)
        with pytest.raises(SessionClosedError):
            session.ping(0.0)
        with pytest.raises(StreamNotOpenError):
            session.send_data(stream_id, b"x")
        session.reset_stream(stream_id)
        session.consumed(stream_id, 1, 0.0)
        session.go_away()
        assert not session.has_output

    def test_going_away_lets_streams_end(self) -> None:
        client, server = pair()
        stream_id = client.open_stream(0.0)
        pump(client, server)
        server.go_away()
        server.go_away(2)
        assert pump(client, server) == ([GoAwayReceived(0)], [])
        for session in (client, server):
            assert not session.may_open
            with pytest.raises(GoneAwayError):
                session.open_stream(0.0)
        client.send_data(stream_id, b"still")
        assert payloads(pump(client, server)[1], stream_id) == b"still"

    def test_a_violation_gives_the_memory_back(self) -> None:
        budget = MemoryBudget(1 << 30)
        session = Session(Role.SERVER, Config(initial_window=MIB), now=0.0, budget=budget)
        session.receive_data(data(1, b"x", SYN), 0.0)
        session.send_data(1, bytes(1000))
        assert budget.used
        with pytest.raises(RemoteProtocolError):
            session.receive_data(frame(9, 0, 0, 0), 0.0)
        assert budget.used == 0
        assert sent(session) == [Frame(GO_AWAY, 0, 0, 1)]


class TestTime:
    def test_probes_and_death(self) -> None:
        session = Session(Role.SERVER, now=0.0)
        assert session.tick(0.0) == 5.0
        [asked] = sent(session)
        assert (asked.type, asked.flags) == (PING, SYN)
        session.receive_data(frame(PING, ACK, 0, asked.length), 1.0)
        assert session.tick(1.0) == 6.0
        assert not session.has_output
        assert session.tick(6.0) == 11.0
        assert sent(session)[0].type == PING
        assert session.tick(11.0) == 16.0
        with pytest.raises(PeerDeadError, match=r"15\.0 s"):
            session.tick(16.0)
        assert session.is_closed
        assert session.tick(17.0) is None

    def test_a_busy_peer_lives_though_its_answer_never_comes(self) -> None:
        session = Session(Role.SERVER, now=0.0)
        session.receive_data(data(1, bytes(10_000), SYN)[:20], 0.0)
        session.tick(0.0)
        for second in range(10, 1000, 10):
            session.receive_data(b"\0", float(second))
            assert session.tick(second + 9.0) == second + 14.0

    def test_what_carries_the_session_can_be_a_sign_of_life(self) -> None:
        session = Session(Role.SERVER, now=0.0)
        session.tick(0.0)
        for second in range(10, 1000, 10):
            session.heard(float(second))
            assert session.tick(second + 9.0) == second + 14.0
        with pytest.raises(PeerDeadError):
            session.tick(990.0 + 15.0)

    def test_two_idle_sessions_keep_each_other_alive_with_one_probe(self) -> None:
        sessions = pair()
        deadlines = [0.0, 0.0]
        now = 0.0
        pings = ticks = 0
        while now < 3600.0:
            which = deadlines.index(min(deadlines))
            now = deadlines[which]
            following = sessions[which].tick(now)
            assert following is not None
            deadlines[which] = following
            pings += sessions[which].has_output
            ticks += 1
            pump(*sessions, now)
        # One in 5 s for both, and one in 30 s from whoever has not measured.
        assert pings < 3600 / 5 + 3600 / 30 + 10
        assert ticks < 2 * 3600 / 5 + 100


def test_unanswered_opens_are_capped() -> None:
    client, server = pair(Config(max_pending_opens=2))
    client.open_stream(0.0)
    client.open_stream(0.0)
    with pytest.raises(TooManyPendingOpensError):
        client.open_stream(0.0)
    pump(client, server)
    client.open_stream(0.0)


def test_statistics() -> None:
    client, server = pair(Config(max_streams=2))
    first, second = client.open_stream(0.0), client.open_stream(0.0)
    client.send_data(first, b"12345")
    client.send_data(second, bytes(INITIAL + 7))
    assert client.statistics().pending_opens == 2
    pump(client, server)
    mine, theirs = client.statistics(), server.statistics()
    assert (mine.streams, mine.streams_opened, mine.streams_accepted, mine.pending_opens) == (2, 2, 0, 0)
    assert (theirs.streams, theirs.streams_opened, theirs.streams_accepted) == (2, 0, 2)
    assert mine.bytes_out == theirs.bytes_in == INITIAL + 5
    assert (mine.queued, theirs.queued, mine.rtt) == (7, 0, None)
    server.receive_data(window(101, flags=SYN), 0.0)
    assert server.statistics().streams_refused == 1
    assert sent(server) == [Frame(WINDOW_UPDATE, RST, 101, 3)]


def test_it_explains_itself() -> None:
    session = Session(Role.CLIENT, now=0.0)
    session.send_data(session.open_stream(0.0), b"abc")
    assert repr(session) == "<Session client, open: 1 streams, 3 queued>"
    session.receive_data(go_away(), 0.0)
    assert repr(session) == "<Session client, going away: 1 streams, 3 queued>"
    session.close()
    assert repr(session) == "<Session client, closed: 0 streams, 0 queued>"
    assert GO_AWAY == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial_window": INITIAL - 1},
        {"initial_window": 16 * MIB},
        {"max_window": 1 << 31},
        {"busy_frame": 0},
        {"busy_frame": 2, "max_frame": 1},
        {"probe_interval": 15.0},
        {"max_streams": 0},
        {"pings_per_second": -1.0},
    ],
)
def test_a_config_that_makes_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Config(**wrong)  # type: ignore[arg-type]
