"""Who is sent when, and in what frames. Streams come and go as a session would have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.yamux import Config, Drained, MemoryBudget, Role, StreamClosed
from common.yamux.scheduler import Scheduler
from common.yamux.states import StreamInput
from common.yamux.streams import Stream, StreamTable
from tests.common.yamux.wire import DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, Frame, joined, parse

QUANTUM = 16 * 1024
LARGEST = 64 * 1024
CONFIG = Config(max_streams=100_000, max_pending_opens=100_000)


class Bench:
    """A scheduler and streams whose SYN has gone out."""

    def __init__(self, streams: int, credit: int = 1 << 30) -> None:
        self.table = StreamTable(Role.CLIENT, CONFIG, MemoryBudget(0))
        self.scheduler = Scheduler(CONFIG, self.table)
        self.streams = [self.open(credit) for _ in range(streams)]

    def open(self, credit: int = 1 << 30) -> Stream:
        stream = self.table.open(0.0)
        stream.send_window.available = credit
        return stream

    def push(self, which: int, n: int) -> None:
        self.scheduler.push(self.streams[which], bytes([which % 256]) * n)

    def take(self, limit: int = 1 << 30) -> list[Frame]:
        return parse(joined(self.scheduler.take(limit)))

    def turns(self, limit: int = 1 << 30) -> list[tuple[int, int]]:
        """(stream by its place, bytes) of each Data frame."""
        return [((frame.stream_id - 1) // 2, frame.length) for frame in self.take(limit) if frame.type == DATA]


def test_nothing_costs_nothing() -> None:
    bench = Bench(1)
    assert not bench.scheduler.has_output
    assert bench.scheduler.take(1 << 20) == []


def test_one_stream_alone_has_the_largest_frames() -> None:
    bench = Bench(1)
    bench.push(0, 150_000)
    assert bench.turns() == [(0, LARGEST), (0, LARGEST), (0, 150_000 - 2 * LARGEST)]
    assert not bench.scheduler.has_output
    assert bench.scheduler.queued == 0
    assert bench.scheduler.bytes_out == 150_000


def test_several_take_turns_by_quantum() -> None:
    bench = Bench(3)
    for which in range(3):
        bench.push(which, 2 * QUANTUM)
    assert bench.turns() == [(0, QUANTUM), (1, QUANTUM), (2, QUANTUM)] * 2


def test_the_last_one_left_has_the_largest_frames_again() -> None:
    bench = Bench(2)
    bench.push(0, QUANTUM + LARGEST)
    bench.push(1, 10)
    assert bench.turns() == [(0, QUANTUM), (1, 10), (0, LARGEST)]


def test_a_short_answer_overtakes_a_download() -> None:
    bench = Bench(2)
    bench.push(0, 100 * LARGEST)
    assert bench.turns(limit=LARGEST) == [(0, LARGEST)]
    bench.push(1, 500)
    assert bench.turns(limit=LARGEST)[0] == (1, 500)


def test_a_thousand_short_answers_overtake_a_download_and_starve_it_not() -> None:
    bench = Bench(1001)
    bench.push(0, 10 * LARGEST)
    bench.turns(limit=1)
    for which in range(1, 1001):
        bench.push(which, 100)
    turns = bench.turns()
    assert [which for which, _ in turns[:1000]] == list(range(1, 1001))
    assert {which for which, _ in turns[1000:]} == {0}


def test_one_that_keeps_coming_back_gets_its_quantum_a_round_and_no_more() -> None:
    # The second stream never has more than 4 KiB queued, so it is fresh each time; the first is a download.
    bench = Bench(2)
    bench.push(0, 1000 * QUANTUM)
    bench.turns(limit=1)
    sent = [0, 0]
    for _ in range(400):
        if not bench.streams[1].queued:
            bench.push(1, 4096)
        for which, n in bench.turns(limit=4096):
            sent[which] += n
    assert sent[1] > QUANTUM
    assert 0.9 < sent[0] / sent[1] < 1.2


def test_limit_is_passed_by_less_than_a_frame() -> None:
    bench = Bench(3)
    for which in range(3):
        bench.push(which, 10 * LARGEST)
    for limit in (1, 1000, QUANTUM, QUANTUM + 1, 3 * QUANTUM):
        n = len(joined(bench.scheduler.take(limit)))
        assert limit <= n <= limit + QUANTUM + 12 * 4


def test_fresh_streams_that_the_limit_cut_off_keep_their_place() -> None:
    bench = Bench(4)
    for which in range(4):
        bench.push(which, 1000)
    assert bench.turns(limit=1500) == [(0, 1000), (1, 1000)]
    bench.push(0, 7)
    assert bench.turns() == [(2, 1000), (3, 1000), (0, 7)]


def test_no_more_than_the_peer_allows() -> None:
    bench = Bench(1, credit=1000)
    bench.push(0, 1500)
    assert bench.turns() == [(0, 1000)]
    assert not bench.scheduler.has_output
    assert bench.scheduler.queued == 500
    bench.streams[0].send_window.granted(200)
    bench.scheduler.credited(bench.streams[0])
    assert bench.turns() == [(0, 200)]
    bench.streams[0].send_window.granted(1000)
    bench.scheduler.credited(bench.streams[0])
    assert bench.turns() == [(0, 300)]


def test_credit_for_one_that_has_nothing_to_send_or_its_turn_already() -> None:
    bench = Bench(2)
    bench.scheduler.credited(bench.streams[0])
    assert not bench.scheduler.has_output
    bench.push(1, 10)
    bench.scheduler.credited(bench.streams[1])
    assert bench.turns() == [(1, 10)]


def test_control_goes_first_whatever_the_limit() -> None:
    bench = Bench(2)
    bench.push(0, LARGEST)
    bench.streams[1].credit_pending = 77
    bench.scheduler.flag(bench.streams[1])
    bench.scheduler.control(2, 2, 99)
    bench.scheduler.control(3, 0, 1)
    bench.scheduler.refuse(6, 3)
    assert bench.take(limit=1) == [
        Frame(PING, 2, 0, 99),
        Frame(GO_AWAY, 0, 0, 1),
        Frame(WINDOW_UPDATE, RST, 6, 3),
        Frame(WINDOW_UPDATE, 0, 3, 77),
    ]
    assert bench.turns(limit=1) == [(0, LARGEST)]


def test_syn_before_data_and_fin_after_on_frames_of_their_own() -> None:
    bench = Bench(1)
    stream = bench.streams[0]
    stream.syn_pending = True
    bench.scheduler.flag(stream)
    bench.push(0, 5)
    bench.push(0, 6)
    bench.scheduler.end(stream)
    assert bench.take() == [
        Frame(WINDOW_UPDATE, SYN, 1, 0),
        Frame(DATA, 0, 1, 11, bytes(11)),
        Frame(WINDOW_UPDATE, FIN, 1, 0),
    ]
    bench.scheduler.flag(stream)
    assert bench.take() == [], "there is one FIN"


def test_fin_waits_for_credit_with_the_data() -> None:
    bench = Bench(1, credit=10)
    bench.push(0, 20)
    bench.scheduler.end(bench.streams[0])
    assert [frame.type for frame in bench.take()] == [DATA]
    bench.streams[0].send_window.granted(10)
    bench.scheduler.credited(bench.streams[0])
    assert [(frame.type, frame.flags) for frame in bench.take()] == [(DATA, 0), (WINDOW_UPDATE, FIN)]


def test_the_second_fin_closes() -> None:
    bench = Bench(1)
    stream = bench.streams[0]
    bench.table.advance(stream, StreamInput.RECEIVE_FIN)
    bench.push(0, 10)
    bench.scheduler.end(stream)
    assert not bench.scheduler.events
    bench.take()
    assert bench.scheduler.events == [StreamClosed(1)]
    assert not bench.table.live


def test_drained_once_when_the_mark_is_reached() -> None:
    bench = Bench(1)
    stream = bench.streams[0]
    bench.push(0, 3 * LARGEST)
    stream.drained_mark = LARGEST
    bench.take(limit=1)
    assert not bench.scheduler.events
    bench.take(limit=1)
    assert bench.scheduler.events == [Drained(1)]
    bench.take()
    assert bench.scheduler.events == [Drained(1)]


def test_a_reset_drops_what_waits() -> None:
    bench = Bench(3)
    for which in range(3):
        bench.push(which, LARGEST)
    bench.take(limit=1)
    for which in (0, 1):  # one in the row of bulk, one fresh
        bench.table.advance(bench.streams[which], StreamInput.SEND_RST)
        bench.scheduler.reset(bench.streams[which], which)
        assert bench.streams[which].head is None
    assert bench.scheduler.queued == LARGEST
    frames = bench.take()
    assert frames[:2] == [Frame(WINDOW_UPDATE, RST, 1, 0), Frame(WINDOW_UPDATE, RST, 3, 1)]
    assert {frame.stream_id for frame in frames[2:]} == {5}
    assert bench.scheduler.queued == 0


def test_a_reset_before_the_syn_left_says_nothing() -> None:
    bench = Bench(1)
    stream = bench.streams[0]
    stream.syn_pending = True
    bench.scheduler.flag(stream)
    bench.push(0, 100)
    bench.scheduler.reset(stream, 0)
    assert not bench.scheduler.has_output
    assert bench.take() == []


def test_open_and_reset_leave_nothing_behind_while_nobody_takes() -> None:
    bench = Bench(0)
    scheduler = bench.scheduler
    for _ in range(5000):
        stream = bench.open()
        stream.syn_pending = True
        scheduler.flag(stream)
        scheduler.push(stream, b"request")
        bench.table.advance(stream, StreamInput.SEND_RST)
        scheduler.reset(stream, 0)
    assert not scheduler.has_output
    for left in (scheduler._fresh, scheduler._bulk, scheduler._flagged, scheduler.urgent, scheduler.queued):
        assert not left


def test_large_buffers_are_passed_on_and_small_ones_gathered() -> None:
    bench = Bench(1)
    large = bytes(40_000)
    bench.scheduler.push(bench.streams[0], large)
    header, payload = bench.scheduler.take(1 << 20)
    assert len(header) == 12
    assert payload is large
    for _ in range(10):
        bench.scheduler.push(bench.streams[0], b"small")
    [whole] = bench.scheduler.take(1 << 20)
    assert parse(bytes(whole)) == [Frame(DATA, 0, 1, 50, b"small" * 10)]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(kind: type) -> None:
    bench = Bench(1)
    content = bytes(range(256)) * 600
    bench.scheduler.push(bench.streams[0], kind(content))
    bench.scheduler.push(bench.streams[0], kind(b"end"))
    assert b"".join(frame.payload for frame in bench.take()) == content + b"end"


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([1, 100, 4095, 4096, 20_000, 70_000]), st.booleans()), max_size=40
    ),
    st.sampled_from([1, 5_000, 100_000]),
)
def test_every_byte_goes_once_in_order_whatever_the_turns(pushes: list[tuple[int, int, bool]], limit: int) -> None:
    bench = Bench(5)
    expected = dict.fromkeys(range(5), b"")
    received = dict.fromkeys(expected, b"")

    def take() -> None:
        for frame in bench.take(limit):
            received[(frame.stream_id - 1) // 2] += frame.payload

    for number, (which, n, now) in enumerate(pushes):
        content = bytes([number]) * n
        bench.scheduler.push(bench.streams[which], content)
        expected[which] += content
        assert bench.streams[which].queued == len(expected[which]) - len(received[which])
        if now:
            take()
    while bench.scheduler.has_output:
        take()
    assert received == expected
    assert bench.scheduler.queued == 0
