"""Two ends against a model of bytes: whatever is written, paused, cut, blocked, half-closed or reset in any order, what
arrives is what was sent, in order, and every stream ends once. And arbitrary bytes raise nothing.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from common.tunnel.config import TunnelConfig
from common.tunnel.core import FLUSH_SIZE
from common.tunnel.interfaces import Subprotocol
from common.tunnel.seams import State
from common.tunnel.stream import ResetCode
from common.yamux import Config as YamuxConfig
from tests.common.tunnel.fakes import RecordingSink
from tests.common.tunnel.frames import BINARY, KEY, frame
from tests.common.tunnel.pair import Pair, accept

SIZES = st.sampled_from([1, 5, 100, 4096, 20_000, 70_000, 300_000])


class Half:
    """One end of a stream: its sink, and what it sent."""

    def __init__(self, sink: RecordingSink) -> None:
        self.sink = sink
        self.sent = bytearray()
        self.ended = False
        self.paused = False


class TunnelMachine(RuleBasedStateMachine):
    subprotocol = Subprotocol.HOMEPORT_V1

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(self.subprotocol, TunnelConfig(yamux=YamuxConfig(max_streams=20)))
        self.joined: list[tuple[Half, Half]] = []
        self.counter = 0

    streams = Bundle("streams")

    @rule(target=streams)
    def open(self) -> tuple[Half, Half]:
        near, _ = self.pair.ask()
        blocked = self.pair.to_relay_blocked, self.pair.to_device_blocked
        self.pair.to_relay_blocked = self.pair.to_device_blocked = False
        self.pair.pump()
        if self.pair.device.requests:
            far = accept(self.pair.device.requests.pop())
            self.pair.pump()
        else:
            far = RecordingSink()  # a limit is reached
        self.pair.to_relay_blocked, self.pair.to_device_blocked = blocked
        halves = (Half(near), Half(far))
        if near.stream is not None:
            self.joined.append(halves)
        return halves

    @rule(stream=streams, side=st.booleans(), size=SIZES)
    def write(self, stream: tuple[Half, Half], side: bool, size: int) -> None:
        half = stream[side]
        if half.sink.stream is None or half.ended or half.sink.lost or half.sink.writing_paused:
            return
        self.counter += 1
        payload = bytes((self.counter + i) % 251 for i in range(min(size, 997))) * (size // 997 + 1)
        half.sent += payload[:size]
        half.sink.write(payload[:size])

    @rule(stream=streams, side=st.booleans())
    def end(self, stream: tuple[Half, Half], side: bool) -> None:
        half = stream[side]
        if half.sink.stream is not None:
            half.ended = True
            half.sink.stream.write_eof()

    @rule(stream=streams, side=st.booleans())
    def pause(self, stream: tuple[Half, Half], side: bool) -> None:
        half = stream[side]
        if half.sink.stream is not None:
            half.paused = True
            half.sink.stream.pause_reading()

    @rule(stream=streams, side=st.booleans())
    def resume(self, stream: tuple[Half, Half], side: bool) -> None:
        half = stream[side]
        if half.sink.stream is not None:
            half.paused = False
            half.sink.stream.resume_reading()

    @rule(stream=consumes(streams), side=st.booleans(), code=st.sampled_from(ResetCode))
    def reset(self, stream: tuple[Half, Half], side: bool, code: ResetCode) -> None:
        half = stream[side]
        if half.sink.stream is not None and not half.sink.lost:
            half.sink.stream.reset(code)
            self.joined.remove(stream)

    @rule(direction=st.booleans(), blocked=st.booleans())
    def block(self, direction: bool, blocked: bool) -> None:
        if direction:
            self.pair.to_relay_blocked = blocked
        else:
            self.pair.to_device_blocked = blocked

    @rule(chunk=st.sampled_from([None, 7, 1000, 65_536]))
    def pump(self, chunk: int | None) -> None:
        self.pair.pump(chunk if chunk != 7 or self.pair.relay_core.session.total_buffered < 50_000 else None)

    @rule(seconds=st.sampled_from([0.01, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        if not (self.pair.to_relay_blocked or self.pair.to_device_blocked):
            self.pair.advance(seconds)

    @invariant()
    def what_arrived_was_sent(self) -> None:
        for near, far in self.joined:
            for half, other in ((near, far), (far, near)):
                received = half.sink.received
                assert other.sent.startswith(received)
                if half.sink.eof:
                    assert other.ended
                    assert received == other.sent
                assert len(half.sink.lost) <= 1

    @invariant()
    def what_waits_is_bounded(self) -> None:
        for core in (self.pair.relay_core, self.pair.device_core):
            mark = core.config.high_water + 300_000
            assert core.session.total_buffered <= mark * max(core.stream_count, 1)
            assert core.state is State.OPEN

    def teardown(self) -> None:
        self.pair.to_relay_blocked = self.pair.to_device_blocked = False
        self.pair.pump()
        for halves in self.joined:
            for half in halves:
                if half.sink.stream is not None:
                    half.sink.stream.resume_reading()
                    half.sink.stream.write_eof()
        self.pair.pump()
        for near, far in self.joined:
            assert near.sink.received == far.sent
            assert far.sink.received == near.sent
            assert near.sink.lost == far.sink.lost == [None]
        own = 1 if self.subprotocol is Subprotocol.HOMEPORT_V1 else 0
        for core in (self.pair.relay_core, self.pair.device_core):
            assert core.stream_count == own
            assert core.session.total_buffered == 0
            assert not core.has_output


class RawTunnelMachine(TunnelMachine):
    subprotocol = Subprotocol.YAMUX


TestTunnelMachine = TunnelMachine.TestCase
TestRawTunnelMachine = RawTunnelMachine.TestCase


@given(
    subprotocol=st.sampled_from(Subprotocol),
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    framed=st.booleans(),
)
def test_arbitrary_bytes_raise_nothing(subprotocol: Subprotocol, chunks: list[bytes], framed: bool) -> None:
    for victim in ("relay", "device"):
        pair = Pair(subprotocol)
        near, _ = pair.open()
        core = pair.relay_core if victim == "relay" else pair.device_core
        key = KEY if victim == "relay" else None
        for chunk in chunks:
            core.receive(frame(BINARY, chunk, key=key) if framed else chunk)
            assert sum(map(len, core.data_to_send())) <= FLUSH_SIZE + 64 * 1024
        core.receive_eof()
        pair.relay_core.connection_lost(None)
        assert near.over
        assert len(pair.relay.closed) == 1


HEADER = st.builds(
    lambda kind, flags, stream, length: b"\0" + bytes((kind, 0, flags)) + stream.to_bytes(4, "big") + length,
    st.integers(0, 4),
    st.integers(0, 15),
    st.integers(0, 6),
    st.sampled_from([0, 1, 5, 12, 65_536, 300_000, 2**32 - 1]).map(lambda n: n.to_bytes(4, "big")),
)


@given(
    subprotocol=st.sampled_from(Subprotocol),
    parts=st.lists(HEADER | st.binary(max_size=20), max_size=20),
)
def test_arbitrary_frames_raise_nothing(subprotocol: Subprotocol, parts: list[bytes]) -> None:
    for victim in ("relay", "device"):
        pair = Pair(subprotocol)
        near, far = pair.open()
        core, key = (pair.relay_core, KEY) if victim == "relay" else (pair.device_core, None)
        for part in parts:
            if part:
                core.receive(frame(BINARY, part, key=key))
        core.settle()
        while core.has_output:
            core.data_to_send()
        core.connection_lost(None)
        assert len((near if victim == "relay" else far).lost) == 1
        handler = pair.relay if victim == "relay" else pair.device
        assert len(handler.closed) == 1
