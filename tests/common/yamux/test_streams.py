"""Ids, caps and the counting of streams."""

from __future__ import annotations

import pytest

from common.yamux import (
    Config,
    GoneAwayError,
    MemoryBudget,
    ResetReason,
    Role,
    SessionClosedError,
    StreamIdsExhaustedError,
    TooManyPendingOpensError,
    TooManyStreamsError,
)
from common.yamux.config import MAX_STREAM_ID
from common.yamux.states import StreamInput, StreamState
from common.yamux.streams import Stream, StreamTable


def table(role: Role = Role.CLIENT, config: Config | None = None) -> StreamTable:
    return StreamTable(role, config or Config(), MemoryBudget(1 << 30))


def accepted(streams: StreamTable, stream_id: int) -> Stream:
    stream = streams.accept(stream_id, 0.0)
    assert isinstance(stream, Stream)
    return stream


def test_clients_are_odd_and_servers_even() -> None:
    client, server = table(Role.CLIENT), table(Role.SERVER)
    assert [client.open(0.0).id for _ in range(3)] == [1, 3, 5]
    assert [server.open(0.0).id for _ in range(3)] == [2, 4, 6]
    assert client.is_peers(2)
    assert not client.is_peers(1)
    assert server.is_peers(1)
    assert not server.is_peers(2)


def test_what_was_opened_is_known_from_two_numbers() -> None:
    streams = table()
    streams.open(0.0)
    accepted(streams, 8)
    assert [stream_id for stream_id in range(1, 12) if streams.was_opened(stream_id)] == [1, 2, 4, 6, 8]


def test_the_peer_may_open_out_of_order() -> None:
    # hashicorp/yamux takes an id and sends its SYN in two steps, so that two goroutines can overtake each other.
    streams = table()
    assert [accepted(streams, stream_id).id for stream_id in (6, 2, 4)] == [6, 2, 4]


def test_the_cap_holds_for_both_sides_together() -> None:
    streams = table(config=Config(max_streams=3))
    streams.open(0.0)
    accepted(streams, 2)
    streams.open(0.0)
    with pytest.raises(TooManyStreamsError, match="3 streams"):
        streams.open(0.0)
    assert streams.accept(4, 0.0) is ResetReason.LIMIT
    assert (streams.opened, streams.accepted, streams.refused) == (2, 1, 1)
    assert streams.was_opened(4), "its frames are late, not a violation"
    streams.advance(streams.live[2], StreamInput.SEND_RST)
    assert streams.open(0.0).id == 5


def test_unanswered_opens_are_capped() -> None:
    streams = table(config=Config(max_pending_opens=2))
    first, second = streams.open(0.0), streams.open(0.0)
    with pytest.raises(TooManyPendingOpensError, match="2 opens"):
        streams.open(0.0)
    streams.advance(first, StreamInput.RECEIVE_WINDOW)
    third = streams.open(0.0)
    assert streams.pending_opens == 2
    streams.advance(second, StreamInput.SEND_FIN)
    assert streams.pending_opens == 2, "our FIN is no answer"
    streams.advance(second, StreamInput.RECEIVE_FIN)
    streams.advance(third, StreamInput.SEND_RST)
    assert streams.pending_opens == 0
    streams.advance(first, StreamInput.RECEIVE_RST)
    assert streams.pending_opens == 0
    assert not streams.live


def test_unsent_acks_are_capped() -> None:
    streams = table(config=Config(accept_backlog=2))
    first, second = accepted(streams, 2), accepted(streams, 4)
    assert streams.accept(6, 0.0) is ResetReason.LIMIT
    streams.advance(first, StreamInput.RECEIVE_RST)
    third = accepted(streams, 8)
    assert streams.pending_acks == 2
    for stream in (second, third):
        stream.ack_pending = False
        streams.pending_acks -= 1
        streams.advance(stream, StreamInput.SEND_RST)
    assert streams.pending_acks == 0


def test_ids_run_out() -> None:
    streams = table()
    streams._next_id = MAX_STREAM_ID
    assert streams.open(0.0).id == 0xFFFF_FFFF
    with pytest.raises(StreamIdsExhaustedError):
        streams.open(0.0)
    assert streams.is_peers(2)


def test_going_away() -> None:
    ours, theirs = table(), table()
    ours.gone_away = True
    theirs.peer_gone_away = True
    with pytest.raises(GoneAwayError, match="we sent"):
        ours.open(0.0)
    with pytest.raises(GoneAwayError, match="the peer sent"):
        theirs.open(0.0)
    assert ours.accept(2, 0.0) is ResetReason.DRAINING
    assert isinstance(theirs.accept(2, 0.0), Stream), "the peer does not want ours, but may open its own"


def test_a_stream_that_closes_gives_its_memory_back() -> None:
    budget = MemoryBudget(1 << 30)
    streams = StreamTable(Role.CLIENT, Config(initial_window=1 << 20), budget)
    stream = streams.open(0.0)
    assert budget.used == (1 << 20) - (256 << 10)
    assert streams.advance(stream, StreamInput.SEND_FIN)
    assert not streams.advance(stream, StreamInput.SEND_FIN)
    assert streams.advance(stream, StreamInput.RECEIVE_FIN)
    assert budget.used == 0
    assert stream.state is StreamState.CLOSED


def test_the_end_of_the_session() -> None:
    streams = table()
    stream = streams.open(0.0)
    accepted(streams, 2)
    assert [closed.id for closed in streams.close()] == [1, 2]
    assert not streams.live
    assert stream.state is StreamState.CLOSED
    assert (streams.pending_opens, streams.pending_acks) == (0, 0)
    with pytest.raises(SessionClosedError):
        streams.open(0.0)


def test_a_stream_explains_itself() -> None:
    stream = table().open(0.0)
    stream.fin_pending = True
    assert repr(stream) == (
        "<Stream 1 OPENING: 0 queued and FIN, 262144 to send, "
        "<ReceiveWindow 262144: 262144 granted, 0 unconsumed, 0 owed>>"
    )
