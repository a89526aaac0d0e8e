"""Fuzzes a whole session: a hostile peer, a caller that does as it likes, and a clock.

Run it as `python -m tests.common.yamux.fuzz_session [libFuzzer options] [corpus]`;
without `-runs=` it goes on until it finds something.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["common.yamux"]):
    from common.yamux import (
        Config,
        DataReceived,
        Drained,
        Event,
        LocalProtocolError,
        MemoryBudget,
        PeerDeadError,
        RemoteProtocolError,
        Role,
        Session,
        StreamClosed,
        StreamOpened,
        StreamReset,
    )

from tests.common.yamux.wire import DATA, frame, joined, parse

CONFIG = Config(
    initial_window=300_000,
    max_window=1 << 20,
    session_window_budget=500_000,
    max_streams=5,
    max_pending_opens=3,
    accept_backlog=3,
    max_frame=1000,
    busy_frame=100,
    control_frames_per_second=100.0,
    control_frames_burst=100,
    pings_per_second=10.0,
    pings_burst=20,
    max_control_queue=400,
)
LENGTHS = (0, 1, 12, 100, 100_000, 262_144, 300_000, 0xFFFF_FFFF)


class Run:
    """One session and what must hold of it."""

    def __init__(self, data: bytes) -> None:
        self.choices = atheris.FuzzedDataProvider(data)
        self.now = 0.0
        self.budget = MemoryBudget(400_000)
        role = Role.CLIENT if self.choices.ConsumeBool() else Role.SERVER
        self.session = Session(role, CONFIG, now=0.0, budget=self.budget)
        self.live: set[int] = set()
        self.unconsumed: dict[int, int] = {}
        self.answered = b""

    def go(self) -> None:
        """Do what the input says, until it or the session ends."""
        steps = (
            self.frame,
            self.frame,
            self.frame,
            self.bytes,
            self.open,
            self.send,
            self.end,
            self.consume,
            self.take,
        )
        while self.choices.remaining_bytes() and not self.session.is_closed:
            steps[self.choices.ConsumeIntInRange(0, len(steps) - 1)]()
            self.check()
        self.answered += joined(self.session.data_to_send(1 << 24))
        parse(self.answered)
        self.session.close()
        assert self.session.receive_data(b"\xff" * 12, self.now) == []
        assert self.budget.used == 0

    def frame(self) -> None:
        """A frame that is nearly right."""
        choices = self.choices
        kind, flags, stream_id = (choices.ConsumeIntInRange(0, last) for last in (3, 15, 12))
        length = LENGTHS[choices.ConsumeIntInRange(0, len(LENGTHS) - 1)]
        self.receive(frame(kind, flags, stream_id, length))
        if kind == DATA:
            # All of the payload, or less, in two pieces.
            payload = bytes(min(length, 300_000))
            part = choices.ConsumeIntInRange(0, 255) * len(payload) // 255
            self.receive(payload[:part])
            if choices.ConsumeBool():
                self.receive(payload[part:])

    def bytes(self) -> None:
        """Anything at all."""
        self.receive(self.choices.ConsumeBytes(40))

    def receive(self, data: bytes) -> None:
        """From the peer. What it raises is a violation, and nothing else."""
        try:
            self.told(self.session.receive_data(data, self.now))
        except RemoteProtocolError as exc:
            self.told(exc.events)
            assert self.session.is_closed
            self.live.clear()

    def told(self, events: list[Event]) -> None:
        """Follow the streams."""
        for event in events:
            if isinstance(event, StreamOpened):
                assert event.stream_id not in self.live
                self.live.add(event.stream_id)
                self.unconsumed[event.stream_id] = 0
                continue
            stream_id = getattr(event, "stream_id", None)
            assert stream_id is None or stream_id in self.live, f"{event} on a stream that is not there"
            if isinstance(event, DataReceived):
                assert event.data
                self.unconsumed[event.stream_id] += len(event.data)
                assert self.unconsumed[event.stream_id] <= CONFIG.max_window
            elif isinstance(event, StreamReset | StreamClosed):
                self.live.discard(event.stream_id)
            elif isinstance(event, Drained):
                assert self.session.buffered(event.stream_id) <= 50

    def pick(self) -> int:
        """A stream, live or not."""
        return self.choices.ConsumeIntInRange(0, 12)

    def open(self) -> None:
        try:
            stream_id = self.session.open_stream(self.now)
        except LocalProtocolError:
            return
        self.live.add(stream_id)
        self.unconsumed[stream_id] = 0

    def send(self) -> None:
        stream_id = self.pick()
        n = LENGTHS[self.choices.ConsumeIntInRange(0, 5)]
        try:
            self.session.send_data(stream_id, bytes(n))
        except LocalProtocolError:
            return
        self.session.notify_drained(stream_id, 50)
        self.told(self.session.events())

    def end(self) -> None:
        stream_id = self.pick()
        if self.choices.ConsumeBool():
            self.session.reset_stream(stream_id, 1)
            self.live.discard(stream_id)
            return
        try:
            self.session.end_stream(stream_id)
        except LocalProtocolError:
            return

    def consume(self) -> None:
        stream_id = self.pick()
        n = self.choices.ConsumeIntInRange(0, 1 << 20)
        try:
            self.session.consumed(stream_id, n, self.now)
        except LocalProtocolError:
            assert n > self.unconsumed[stream_id]
            return
        if stream_id in self.live:
            assert n <= self.unconsumed[stream_id]
            self.unconsumed[stream_id] -= n

    def take(self) -> None:
        """Let it send, and time pass."""
        self.answered += joined(self.session.data_to_send(self.choices.ConsumeIntInRange(1, 5000)))
        self.told(self.session.events())
        self.now += self.choices.ConsumeIntInRange(0, 12)
        try:
            deadline = self.session.tick(self.now)
        except PeerDeadError:
            assert self.session.is_closed
            self.live.clear()
            return
        assert deadline is not None
        assert deadline > self.now

    def check(self) -> None:
        """What holds at every moment."""
        session = self.session
        assert set(session._streams) == self.live
        assert len(self.live) <= CONFIG.max_streams
        assert session.total_buffered == sum(session.buffered(stream_id) for stream_id in self.live)
        assert len(session._scheduler.urgent) <= CONFIG.max_control_queue + 12 * 20
        statistics = session.statistics()
        assert 0 <= statistics.pending_opens <= CONFIG.max_pending_opens
        assert statistics.window_reserved == self.budget.used <= self.budget.total
        for stream in session._streams.values():
            mine = stream.receive_window
            assert min(mine.available, mine.unconsumed, mine.owed, stream.send_window.available) >= 0
            assert mine.size <= CONFIG.max_window


def one_input(data: bytes) -> None:
    """One run."""
    Run(data).go()


def main() -> None:
    """Hand the process over to libFuzzer."""
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
