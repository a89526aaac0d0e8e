"""Two sessions at the ends of a long or thin path, simulated on a clock of its own: how long things take, exactly."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import pytest

from common.yamux import INITIAL_WINDOW, Config, DataReceived, Role, Session
from tests.common.yamux.wire import joined

MIB = 1 << 20
FLUSH = 64 * 1024
SEGMENT = 4096


class Path:
    """A wire of some delay, seconds one way, and some rate, bytes a second; nothing is lost. Both ends have measured it
    when it is made, and consume what comes at once."""

    def __init__(self, delay: float, rate: float, config: Config) -> None:
        self.now = 0.0
        self.client = Session(Role.CLIENT, config, now=0.0)
        self.server = Session(Role.SERVER, config, now=0.0)
        self.received: dict[int, int] = {}
        self.unread: set[int] = set()
        """Streams of which nothing is consumed."""
        self.reached: dict[tuple[int, int], float] = {}
        """When a stream had received so many bytes in all."""
        self._delay, self._rate = delay, rate
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._free_at = {Role.CLIENT: 0.0, Role.SERVER: 0.0}
        for session in (self.client, self.server):
            session.tick(0.0)
            self.send(session)
        self.run(lambda: None not in (self.client.rtt, self.server.rtt))

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Put it on the agenda."""
        heapq.heappush(self._agenda, (when, next(self._order), what))

    def run(self, done: Callable[[], bool]) -> None:
        """Let time pass until it is so."""
        while not done():
            self.now, _, what = heapq.heappop(self._agenda)
            what()

    def send(self, session: Session) -> None:
        """Put on the wire what the session has to say, a flush at a time, as the wire takes it."""
        role = Role.CLIENT if session is self.client else Role.SERVER
        if self.now < self._free_at[role]:
            return
        data = joined(session.data_to_send(FLUSH))
        if data:
            self._free_at[role] = free = self.now + len(data) / self._rate
            self.at(free, lambda: self.send(session))
            for at in range(0, len(data), SEGMENT):
                self._put(self.now + self._delay, role, data, at)

    def _put(self, first: float, sender: Role, data: bytes, at: int) -> None:
        piece = data[at : at + SEGMENT]
        self.at(first + (at + len(piece)) / self._rate, lambda: self.arrive(sender, piece))

    def arrive(self, sender: Role, data: bytes) -> None:
        session = self.server if sender is Role.CLIENT else self.client
        for event in session.receive_data(data, self.now):
            if type(event) is DataReceived:
                if event.stream_id not in self.unread:
                    session.consumed(event.stream_id, len(event.data), self.now)
                total = self.received[event.stream_id] = self.received.get(event.stream_id, 0) + len(event.data)
                self.reached[event.stream_id, total] = self.now
        self.send(session)


def seconds_for(n: int, delay: float, rate: float, config: Config) -> float:
    """How long `n` bytes take on one stream."""
    path = Path(delay, rate, config)
    stream_id = path.client.open_stream(path.now)
    path.client.send_data(stream_id, bytes(n))
    path.send(path.client)
    path.run(lambda: path.received.get(stream_id) == n)
    return path.now


def test_one_stream_fills_100_ms() -> None:
    """64 MiB at 100 ms round trip on 1 Gbit/s: at least 10 times as fast as a fixed window of 256 KiB."""
    fixed = seconds_for(64 * MIB, 0.05, 125e6, Config(max_window=INITIAL_WINDOW))
    grown = seconds_for(64 * MIB, 0.05, 125e6, Config())
    assert fixed > 25.0
    assert grown < fixed / 10


@pytest.mark.parametrize("mbit", [10, 100])
def test_a_path_that_256_kib_do_not_fill_is_filled(mbit: int) -> None:
    rate = mbit * 125_000
    # 256 KiB a round trip of 0.3 s would be 0.85 MiB/s. Eight round trips go by until the window has grown.
    assert seconds_for(32 * MIB, 0.15, rate, Config()) < 32 * MIB / rate + 8 * 0.3


def test_a_short_path_needs_no_large_window() -> None:
    path = Path(0.0005, 5e6, Config())
    stream_id = path.client.open_stream(path.now)
    path.client.send_data(stream_id, bytes(16 * MIB))
    path.send(path.client)
    path.run(lambda: path.received.get(stream_id) == 16 * MIB)
    assert path.server.statistics().window_reserved == 0


@pytest.mark.parametrize("streams", [1, 5])
def test_small_messages_beside_bulk(streams: int) -> None:
    """On 100 Mbit/s, 500 bytes beside any number of uploads arrive after what was on the wire already: at most a flush
    and a frame of 5 ms and 1 ms, however much is queued. The uploads lose nothing by it."""
    path = Path(0.001, 12.5e6, Config())
    uploads = [path.client.open_stream(path.now) for _ in range(streams)]
    small = path.client.open_stream(path.now)
    for stream_id in uploads:
        path.client.send_data(stream_id, bytes(8 * MIB))
    sent_at: list[float] = []

    def say() -> None:
        sent_at.append(path.now)
        path.client.send_data(small, bytes(500))
        path.send(path.client)
        if len(sent_at) < 100:
            path.at(path.now + 0.01, say)

    path.at(0.2, say)
    path.send(path.client)
    path.run(lambda: path.received.get(small) == 50_000)
    delays = [path.reached[small, 500 * (n + 1)] - sent for n, sent in enumerate(sent_at)]
    assert max(delays) < 0.001 + (FLUSH + 16 * 1024 + 1000) / 12.5e6
    path.run(lambda: all(path.received.get(stream_id) == 8 * MIB for stream_id in uploads))
    assert max(path.reached[stream_id, 8 * MIB] for stream_id in uploads) < 1.02 * streams * 8 * MIB / 12.5e6 + 0.05


def test_streams_share_a_path_evenly() -> None:
    path = Path(0.01, 12.5e6, Config())
    ids = [path.client.open_stream(path.now) for _ in range(8)]
    for stream_id in ids:
        path.client.send_data(stream_id, bytes(2 * MIB))
    path.send(path.client)
    path.run(lambda: max(path.received.values(), default=0) == 2 * MIB)
    assert min(path.received.values()) > 0.9 * 2 * MIB


def test_a_reader_that_stops_stops_only_its_stream() -> None:
    path = Path(0.01, 125e6, Config())
    stuck, free = (path.client.open_stream(path.now) for _ in range(2))
    path.unread.add(stuck)
    for stream_id in (stuck, free):
        path.client.send_data(stream_id, bytes(8 * MIB))
    path.send(path.client)
    path.run(lambda: path.received.get(free) == 8 * MIB)
    assert path.received[stuck] == INITIAL_WINDOW
    assert path.client.buffered(stuck) == 8 * MIB - INITIAL_WINDOW
