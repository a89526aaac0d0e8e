"""Back-pressure, fairness and bounds: nobody waits for anybody else, and nothing grows without limit."""

from __future__ import annotations

import struct

import pytest

from common.tunnel.config import TunnelConfig
from common.tunnel.core import FLUSH_SIZE
from common.tunnel.interfaces import Subprotocol
from common.tunnel.stream import Buffer, ResetCode
from common.yamux import Config as YamuxConfig
from common.yamux import MemoryBudget
from tests.common.tunnel.fakes import RecordingSink
from tests.common.tunnel.frames import BINARY, KEY, frame
from tests.common.tunnel.pair import Pair, echo

KIB = 1024
CONFIG = TunnelConfig()
WINDOW = YamuxConfig().initial_window
OPENING = 100
"""Bytes of a window that the message and answer at a stream's start may have taken, and that wait to be granted."""


@pytest.fixture
def pair() -> Pair:
    return Pair()


# Writing: water marks.


def test_writing_is_paused_above_the_high_water_mark_and_resumed_at_the_low_one(pair: Pair) -> None:
    near, far = pair.open()
    assert far.stream is not None
    far.stream.pause_reading()
    near.write(bytes(CONFIG.high_water))
    assert not near.writing_paused
    near.write(b"x")
    assert near.writing_paused
    near.write(b"and more, though it was asked not to")
    assert near.pauses == 1
    waiting = CONFIG.high_water + 37
    while near.writing_paused:
        before = waiting
        for buffer in pair.relay_core.data_to_send():
            waiting -= len(buffer)
        assert before > waiting
    assert waiting <= CONFIG.low_water
    assert before > CONFIG.low_water - FLUSH_SIZE


@pytest.mark.parametrize("side", ["relay", "device"])
def test_a_reader_that_stops_stops_the_writer(pair: Pair, side: str) -> None:
    """And no more than one window and the marks is under way."""
    near, far = pair.open()
    writer, reader = (near, far) if side == "relay" else (far, near)
    assert reader.stream is not None
    reader.stream.pause_reading()
    written = 0
    while not writer.writing_paused:
        writer.write(bytes(10_000))
        written += 10_000
        pair.pump()
    held = len(reader.received)
    assert WINDOW - OPENING <= held <= WINDOW
    assert written <= WINDOW + CONFIG.high_water + 10_000
    for _ in range(5):
        pair.advance(1.0)
    assert len(reader.received) == held
    reader.stream.resume_reading()
    pair.pump()
    assert len(reader.received) == written
    assert not writer.writing_paused


def test_pausing_and_resuming_at_will_loses_nothing(pair: Pair) -> None:
    near, far = pair.open()
    assert far.stream is not None
    payload = bytes(range(256)) * 40
    for i in range(200):
        near.write(payload)
        if i % 3 == 0:
            far.stream.pause_reading()
        if i % 5 == 0:
            far.stream.resume_reading()
        if i % 2:
            pair.pump(chunk=5000)
    far.stream.resume_reading()
    pair.pump()
    assert far.received == payload * 200


def test_a_sink_that_pauses_in_the_middle_of_a_read_gets_no_credit(pair: Pair) -> None:
    near, far = pair.open()
    far.limit = 1
    near.write(bytes(WINDOW * 3))
    pair.pump()
    assert WINDOW - OPENING <= len(far.received) <= WINDOW
    far.limit = None
    assert far.stream is not None
    far.stream.resume_reading()
    pair.pump()
    assert len(far.received) == WINDOW * 3


def test_a_paused_sink_is_given_bytes_of_their_own(pair: Pair) -> None:
    """What it keeps, perhaps for long, must not hold on to the large read it came in."""

    class Keeping(RecordingSink):
        def __init__(self) -> None:
            super().__init__()
            self.kept: list[Buffer] = []

        def data_received(self, data: Buffer) -> None:
            super().data_received(data)
            self.kept.append(data)

    keeping = Keeping()
    _, far = pair.open(sink=keeping)
    assert keeping.stream is not None
    keeping.stream.pause_reading()
    for _ in range(20):
        far.write(bytes(5000))
    pair.pump()
    assert len(keeping.received) == 100_000
    assert all(type(piece) is bytes for piece in keeping.kept)
    keeping.stream.resume_reading()


# Streams beside one another.


def test_a_stalled_stream_does_not_slow_another(pair: Pair) -> None:
    stalled, stalled_far = pair.open()
    other, _ = pair.open(echo)
    assert stalled_far.stream is not None
    stalled_far.stream.pause_reading()
    stalled.write(bytes(5_000_000))
    pair.pump()
    for i in range(50):
        other.write(b"ping")
        pair.pump()
        assert len(other.received) == 4 * (i + 1)
    assert WINDOW - OPENING <= len(stalled_far.received) <= WINDOW


def test_a_small_message_overtakes_bulk(pair: Pair) -> None:
    """It waits for what was handed to the connection already, and not for what waits in the session."""
    bulk, _ = pair.open()
    small, _ = pair.open()
    for _ in range(4):
        bulk.write(bytes(64 * KIB))
    ahead = sum(map(len, pair.relay_core.data_to_send()))
    assert ahead <= FLUSH_SIZE + CONFIG.yamux.max_frame
    small.write(b"small")
    flush = b"".join(map(bytes, pair.relay_core.data_to_send()))
    assert b"small" in flush
    assert len(flush) < 4 * 64 * KIB
    assert flush.index(b"small") < 64


def test_two_bulk_streams_share_alike(pair: Pair) -> None:
    one, one_far = pair.open()
    two, two_far = pair.open()
    one.write(bytes(200 * KIB))
    two.write(bytes(200 * KIB))
    for _ in range(2):
        for buffer in pair.relay_core.data_to_send():
            pair.device_core.receive(bytes(buffer))
    assert len(one_far.received) + len(two_far.received) >= 200 * KIB
    assert abs(len(one_far.received) - len(two_far.received)) <= CONFIG.yamux.busy_frame + FLUSH_SIZE // 4


def test_control_goes_ahead_of_data(pair: Pair) -> None:
    bulk, _ = pair.open()
    other, far = pair.open()
    assert other.stream is not None
    for _ in range(4):
        bulk.write(bytes(64 * KIB))
    other.stream.reset()
    for buffer in pair.relay_core.data_to_send():
        pair.device_core.receive(bytes(buffer))
    assert far.reset_code is ResetCode.CANCELLED


# Bounds.


@pytest.mark.parametrize("subprotocol", list(Subprotocol))
def test_many_stalled_streams_hold_a_window_each(subprotocol: Subprotocol) -> None:
    config = TunnelConfig(yamux=YamuxConfig(max_streams=33))
    pair = Pair(subprotocol, config)
    streams = [pair.open() for _ in range(32)]
    for near, far in streams:
        assert near.stream is not None
        near.stream.pause_reading()
        far.write(bytes(1_000_000))
    pair.pump()
    held = [len(near.received) for near, _ in streams]
    assert min(held) >= WINDOW - OPENING
    assert max(held) <= WINDOW
    assert pair.device.tunnel.statistics().buffered == 32 * 1_000_000 - sum(held)


def test_windows_grow_within_the_budget_of_the_process() -> None:
    budget = MemoryBudget(2_000_000)
    config = TunnelConfig(yamux=YamuxConfig(max_window=4 * KIB * KIB))
    pairs = [Pair(config=config, budget=budget) for _ in range(3)]
    for pair in pairs:
        near, far = pair.open()
        far.write(bytes(20_000_000))
        pair.pump()
        assert len(near.received) == 20_000_000
    assert 0 < budget.used <= 2_000_000
    for pair in pairs:
        pair.relay.tunnel.close()
        pair.pump()
    assert budget.used == 0


def test_a_window_shrinks_again_when_others_come() -> None:
    """And with it what its tunnel holds of the process's budget, while its bytes go on flowing."""
    budget = MemoryBudget(5 * KIB * KIB // 2)
    pairs = [Pair(budget=budget) for _ in range(6)]
    streams = [pair.open() for pair in pairs]

    def transfer(number: int) -> int:
        near, far = streams[number]
        before = len(near.received)
        far.write(bytes(8_000_000))
        pairs[number].pump()
        assert len(near.received) - before == 8_000_000
        return pairs[number].relay_core.session.statistics().window_reserved

    alone = transfer(0)
    assert alone > budget.total // 2
    for _ in range(4):
        for number in range(1, 6):
            transfer(number)
        among_others = transfer(0)
        assert budget.used <= budget.total
    assert 0 < among_others < alone
    assert among_others <= budget.total // 2


def yamux_frame(kind: int, flags: int, stream_id: int, length: int, payload: bytes = b"") -> bytes:
    return frame(BINARY, struct.pack("!BBHII", 0, kind, flags, stream_id, length) + payload, key=KEY)


def test_a_peer_that_overruns_its_window_has_that_stream_reset(pair: Pair) -> None:
    near, _ = pair.open()
    other, _ = pair.open(echo)
    assert near.stream is not None
    near.stream.pause_reading()
    stream_id = 2
    for _ in range(5):
        pair.relay_core.receive(yamux_frame(0, 0, stream_id, 60_000, bytes(60_000)))
    assert near.reset_code is ResetCode.FLOW_CONTROL
    assert len(near.received) <= WINDOW
    other.write(b"fine")
    pair.pump()
    assert other.received == b"fine"
    assert not pair.relay.closed


def test_an_id_that_was_used_before_cannot_be_used_again(pair: Pair) -> None:
    near, far = pair.open(echo)
    other, _ = pair.open(echo)
    near.stream.write_eof()  # type: ignore[union-attr]
    pair.pump()
    assert far.lost == [None]
    pair.relay_core.receive(yamux_frame(0, 0, 2, 5, b"ghost"))
    assert near.received == b""
    other.write(b"fine")
    pair.pump()
    assert other.received == b"fine"


def test_a_flood_of_yamux_pings_ends_the_tunnel_and_no_other(pair: Pair) -> None:
    neighbour = Pair()
    near, _ = neighbour.open(echo)
    for i in range(CONFIG.yamux.pings_burst + 1):
        pair.relay_core.receive(yamux_frame(2, 1, 0, i))
    assert pair.relay.closed[0].reason == "protocol_error"
    near.write(b"fine")
    neighbour.pump()
    assert near.received == b"fine"


def test_a_peer_that_opens_and_resets_for_ever_leaves_nothing_behind(pair: Pair) -> None:
    for i in range(2000):
        pair.clock.now += 0.001
        _, ticket = pair.ask()
        if i % 2:
            pair.pump()
        ticket.cancel()
        pair.pump()
    assert pair.relay_core.stream_count == 1
    assert pair.device_core.stream_count == 1
    assert not pair.relay.closed
    assert not pair.device.closed
