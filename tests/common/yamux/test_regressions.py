"""What went wrong in other implementations, each under the name of their regression test or advisory.

Written for this package; a session without I/O cannot hang, so where theirs time out, ours shows that nothing waits.
"""

from __future__ import annotations

import pytest

from common.yamux import (
    Config,
    DataReceived,
    GoAwayReceived,
    GoneAwayError,
    PeerDeadError,
    RemoteProtocolError,
    ResetReason,
    Role,
    Session,
    StreamClosed,
    StreamEnded,
    StreamEstablished,
    StreamOpened,
    StreamReset,
    TooManyPendingOpensError,
    Violation,
)
from tests.common.yamux.wire import (
    ACK,
    DATA,
    FIN,
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
    ping,
    pump,
    sent,
    window,
)


def pair(config: Config | None = None) -> tuple[Session, Session]:
    config = config or Config()
    return Session(Role.CLIENT, config, now=0.0), Session(Role.SERVER, config, now=0.0)


def test_ping_of_death() -> None:
    """hashicorp/yamux deadlocked when both sides' queues were full of pings: its reader wrote the answers. Ours queues
    them, reads on, and a peer that never reads them meets a cap."""
    client, server = pair()
    for session in (client, server):
        session.send_data(session.open_stream(0.0), bytes(INITIAL))
    for number in range(900):
        client.receive_data(ping(number), 0.0)
        server.receive_data(ping(number), 0.0)
    client.ping(0.0)
    assert [frame.type for frame in sent(client, limit=1)] == [PING] * 901 + [WINDOW_UPDATE], "ahead of all data"
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_data(ping(1) * 200, 0.0)
    assert caught.value.violation is Violation.PING_FLOOD


def test_half_close_session_shutdown() -> None:
    """A half-closed stream must still receive when its session goes away, and end when the other half ends."""
    client, server = pair()
    stream_id = client.open_stream(0.0)
    client.end_stream(stream_id)
    pump(client, server)
    client.go_away()
    pump(client, server)
    server.send_data(stream_id, b"all of it")
    server.end_stream(stream_id)
    events, _ = pump(client, server)
    assert events == [DataReceived(stream_id, b"all of it"), StreamEnded(stream_id), StreamClosed(stream_id)]


def test_window_update_write_during_read() -> None:
    """A reader must not wait for its window update to be written."""
    client, server = pair()
    stream_id = client.open_stream(0.0)
    pump(client, server)
    server.send_data(stream_id, bytes(INITIAL - 1))
    events = client.receive_data(joined(server.data_to_send(1 << 24)), 0.0)
    # The client's transport takes nothing; it reads and consumes on all the same.
    for event in events:
        assert type(event) is DataReceived
        client.consumed(stream_id, len(event.data), 100.0)
    assert client.has_output
    granted = [frame.length for frame in sent(client)]
    assert sum(granted) >= INITIAL // 2
    assert len(granted) == 1, "what is granted before it can be sent is one update"


def test_partial_read_window_update() -> None:
    """After just over half of a window was read, the sender has credit for just that."""
    client, server = pair()
    stream_id = client.open_stream(0.0)
    pump(client, server)
    server.send_data(stream_id, bytes(2 * INITIAL))
    pump(client, server)
    assert server.buffered(stream_id) == INITIAL
    client.consumed(stream_id, INITIAL // 2 + 1, 100.0)
    pump(client, server)
    assert server.buffered(stream_id) == INITIAL - (INITIAL // 2 + 1)


def test_backlog_exceeded() -> None:
    """The opener stops by itself before the peer's backlog overflows."""
    client, server = pair()
    for _ in range(256):
        client.send_data(client.open_stream(0.0), b"foo")
    with pytest.raises(TooManyPendingOpensError):
        client.open_stream(0.0)
    _, events = pump(client, server)
    assert sum(type(event) is StreamOpened for event in events) == 256
    assert not any(type(event) is StreamReset for event in events)
    client.open_stream(0.0)


def test_backlog_exceeded_at_the_peer() -> None:
    """A peer whose backlog is smaller refuses with RST and no ACK: that stream is over, the others live."""
    client, _ = pair()
    kept, refused = client.open_stream(0.0), client.open_stream(0.0)
    sent(client)
    assert client.receive_data(window(refused, flags=RST) + window(kept, flags=ACK), 0.0) == [
        StreamReset(refused, 0, by_peer=True),
        StreamEstablished(kept),
    ]
    assert client.statistics().pending_opens == 0


def test_close_before_ack() -> None:
    """hashicorp/yamux never ACKs a stream whose FIN came before it was accepted: its FIN alone must free the open."""
    client, _ = pair(Config(max_pending_opens=8))
    ids = [client.open_stream(0.0) for _ in range(8)]
    for stream_id in ids:
        client.end_stream(stream_id)
    sent(client)
    with pytest.raises(TooManyPendingOpensError):
        client.open_stream(0.0)
    for stream_id in ids:
        client.receive_data(window(stream_id, flags=FIN), 0.0)
    assert client.stream_count == 0
    assert client.open_stream(0.0) == 17


def test_close_before_ack_as_the_acceptor() -> None:
    """And ours is ACKed once, whatever came first: two would corrupt hashicorp's count of opens."""
    for opening in (window(1, flags=SYN | FIN), data(1, b"x", SYN), window(1, flags=SYN)):
        _, server = pair()
        server.receive_data(opening, 0.0)
        frames = sent(server)
        server.send_data(1, b"answer")
        server.consumed(1, 0, 0.0)
        frames += sent(server)
        assert [frame.flags for frame in frames].count(ACK) == 1


def test_open_stream_timeout() -> None:
    """A stream that is never answered costs its caller that stream, not the session (hashicorp/yamux closes it all
    after 75 s)."""
    client, server = pair()
    lost = client.open_stream(0.0)
    sent(client)
    for second in range(0, 200, 2):
        server.ping(float(second))
        pump(client, server, float(second))
        client.tick(float(second))
    client.reset_stream(lost)
    assert sent(client) == [Frame(WINDOW_UPDATE, RST, lost, 0)]
    assert client.statistics().pending_opens == 0
    assert not client.is_closed


def test_send_no_wait_timeout() -> None:
    """A transport that takes nothing: calls go on without waiting, a half-written frame does not exist, and silence
    ends the session with a reason."""
    client, server = pair()
    stream_id = client.open_stream(0.0)
    pump(client, server)
    assert client.tick(0.0) == 5.0
    for _ in range(100):
        client.send_data(stream_id, bytes(10_000))
        client.ping(0.0)
    assert client.buffered(stream_id) == 1_000_000
    assert sum(frame.type == PING for frame in sent(client, limit=1)) == 1
    with pytest.raises(PeerDeadError):
        client.tick(15.0)
    assert client.total_buffered == 0


def test_go_away() -> None:
    client, server = pair()
    server.go_away()
    assert pump(client, server)[0] == [GoAwayReceived(0)]
    with pytest.raises(GoneAwayError):
        client.open_stream(0.0)


def test_go_away_crossing_an_open() -> None:
    """The stream whose SYN crossed the GoAway is refused by its code; the session goes on."""
    client, server = pair()
    old = client.open_stream(0.0)
    pump(client, server)
    server.go_away()
    crossing = client.open_stream(0.0)
    client.send_data(crossing, b"x")
    events, _ = pump(client, server)
    assert StreamReset(crossing, ResetReason.DRAINING, by_peer=True) in events
    server.send_data(old, b"still")
    assert payloads(pump(client, server)[0], old) == b"still"


def test_large_window() -> None:
    """A window beyond 256 KiB is granted on SYN and ACK, and usable at once."""
    client, server = pair(Config(initial_window=2 * INITIAL))
    stream_id = client.open_stream(0.0)
    assert payloads(pump(client, server)[1], stream_id) == b""
    client.send_data(stream_id, bytes(2 * INITIAL))
    _, events = pump(client, server)
    assert len(payloads(events, stream_id)) == 2 * INITIAL


def test_syn_with_data_over_256_kib() -> None:
    """CVE-2026-32314, rust-yamux: a SYN with more data than the window panicked."""
    _, server = pair()
    for n in (INITIAL, INITIAL + 1, 1 << 20):
        session = Session(Role.SERVER, now=0.0)
        events = session.receive_data(data(1, bytes(n), SYN) + ping(7), 0.0)
        assert events[0] == StreamOpened(1)
        if n == INITIAL:
            assert len(payloads(events, 1)) == n
        else:
            assert events[1:] == [StreamReset(1, ResetReason.FLOW_CONTROL, by_peer=False)]
        assert Frame(PING, ACK, 0, 7) in sent(session)
    # The length alone decides; the payload need not come.
    assert server.receive_data(frame(DATA, SYN, 1, 0xFFFF_FFFF), 0.0)[1:] == [
        StreamReset(1, ResetReason.FLOW_CONTROL, by_peer=False)
    ]


def test_pending_frames_are_bounded() -> None:
    """CVE-2024-32984, rust-yamux: frames to answer a peer piled up while it did not read. Here they meet a cap, and
    streams that are opened and reset in turn leave nothing behind at all."""
    _, server = pair()
    for number in range(50_000):
        stream_id = 2 * number + 1
        server.receive_data(window(stream_id, flags=SYN) + window(stream_id, flags=RST), number * 0.001)
    assert not server.has_output
    # Each of these is answered by RST: the stream is opened twice.
    answered = b"".join(window(2 * number + 1, flags=SYN) * 2 for number in range(50_000, 62_000))
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_data(answered, 50.0)
    assert caught.value.violation is Violation.CONTROL_QUEUE_FULL
    assert len(caught.value.events) < 2 * 128 * 1024 / 12 + 2


def test_a_header_and_its_body_in_two_messages() -> None:
    """hashicorp/yamux writes them apart, so that over WebSocket a frame spans two messages."""
    _, server = pair()
    server.receive_data(window(1, flags=SYN), 0.0)
    whole = data(1, b"body")
    assert server.receive_data(whole[:12], 0.0) == []
    assert server.receive_data(whole[12:], 0.0) == [DataReceived(1, b"body")]


def test_one_bad_stream_does_not_kill_the_session() -> None:
    """hashicorp/yamux ends the session over a second FIN, a window exceeded, a duplicate SYN."""
    _, server = pair()
    server.receive_data(data(1, b"good", SYN), 0.0)
    for stream_id, bad in (
        (3, window(3, flags=FIN) * 2),
        (5, data(5, bytes(INITIAL + 1))),
        (7, window(7, flags=SYN)),
        (9, window(9, flags=FIN) + data(9, b"late")),
        (11, window(11, 0xFFFF_FFFF)),
    ):
        events = server.receive_data(window(stream_id, flags=SYN) + bad, 0.0)
        assert type(events[-1]) is StreamReset
        assert not events[-1].by_peer
    assert payloads(server.receive_data(data(1, b"still good"), 0.0), 1) == b"still good"
    assert server.stream_count == 1
    assert server.receive_data(go_away(2), 0.0) == [GoAwayReceived(2)]
    assert not server.is_closed
