"""The core: streams from open to end in every way, deadlines, and the ends of a tunnel."""

from __future__ import annotations

import pytest

from common.tunnel.config import TunnelConfig
from common.tunnel.core import FLUSH_SIZE
from common.tunnel.dialects import HomeportRelay, RawRelay
from common.tunnel.errors import StreamLostError
from common.tunnel.interfaces import CloseReason, PendingStream, Subprotocol
from common.tunnel.seams import State
from common.tunnel.stream import Buffer, ResetCode
from common.tunnel.websocket import Side, WebSocketLink
from common.yamux import Config as YamuxConfig
from tests.common.tunnel.fakes import HELLO, RELAY_HELLO, FakeClock, RecordingRelay, RecordingSink, Source
from tests.common.tunnel.frames import BINARY, KEY, PING, TEXT, frame
from tests.common.tunnel.pair import FakeShell, Pair, echo

both_dialects = pytest.mark.parametrize("subprotocol", list(Subprotocol))
chunks = pytest.mark.parametrize("chunk", [None, 1, 7, 1000])


@pytest.fixture
def pair() -> Pair:
    return Pair()


# Bytes.


@both_dialects
@chunks
def test_bytes_go_both_ways_and_both_halves_end(subprotocol: Subprotocol, chunk: int | None) -> None:
    pair = Pair(subprotocol)
    near, far = pair.open(echo)
    near.write(b"hello ")
    near.write(memoryview(b"world"))
    pair.pump(chunk)
    assert near.received == b"hello world"
    near.stream.write_eof()  # type: ignore[union-attr]
    pair.pump(chunk)
    assert far.eof
    assert near.eof
    assert near.lost == [None]
    assert far.lost == [None]
    statistics = pair.relay.tunnel.statistics()
    assert statistics.streams == 0
    assert statistics.streams_total == 1
    assert statistics.bytes_in >= 11
    assert not pair.relay.closed


@pytest.mark.parametrize("size", [1, 4095, 65_536, 300_000, 5_000_000])
def test_any_amount_goes_through_in_order(pair: Pair, size: int) -> None:
    payload = bytes(i * 7 % 251 for i in range(1009)) * (size // 1009 + 1)
    payload = payload[:size]
    near, far = pair.open()
    source = Source(payload)
    source.stream = near.stream
    near.pause_writing = source.pause_writing  # type: ignore[method-assign]
    near.resume_writing = source.resume_writing  # type: ignore[method-assign]
    source.pump()
    pair.pump()
    assert far.received == payload
    assert far.eof


def test_an_empty_write_and_writes_after_the_end_do_nothing(pair: Pair) -> None:
    near, far = pair.open()
    assert near.stream is not None
    near.write(b"")
    assert pair.pump() == 0
    near.write(b"x")
    near.stream.write_eof()
    near.write(b"after EOF")
    near.stream.write_eof()
    pair.pump()
    assert far.received == b"x"
    near.stream.reset()
    pair.pump()
    near.write(b"after reset")
    near.stream.write_eof()
    near.stream.reset()
    near.stream.pause_reading()
    near.stream.resume_reading()
    assert pair.pump() == 0
    assert len(near.lost) == 1


# Half-close and reset, both ways, in all states: what either side did before.

BEFORE = {
    "nothing": "",
    "near sent": "w",
    "far sent": "W",
    "near ended": "e",
    "far ended": "E",
    "near sent and ended": "we",
    "far sent and ended": "WE",
    "both sent": "wW",
    "near reading paused": "pW",
    "far reading paused": "Pw",
    "near unsent": "u",
    "far unsent": "U",
}


def do(pair: Pair, near: RecordingSink, far: RecordingSink, steps: str) -> None:
    for step in steps:
        sink = far if step.isupper() else near
        assert sink.stream is not None
        match step.lower():
            case "w":
                sink.write(b"x" * 1000)
            case "e":
                sink.stream.write_eof()
            case "p":
                sink.stream.pause_reading()
            case "u":
                sink.write(b"x" * 3_000_000)
                continue
        pair.pump()


@pytest.mark.parametrize("steps", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("resetter", ["near", "far", "both"])
def test_reset(pair: Pair, steps: str, resetter: str) -> None:
    near, far = pair.open()
    assert near.stream is not None
    assert far.stream is not None
    do(pair, near, far, steps)
    if resetter in ("near", "both"):
        near.stream.reset(ResetCode.TIMEOUT)
        assert not near.lost  # soon, not from inside the call
    if resetter in ("far", "both"):
        far.stream.reset(ResetCode.INTERNAL)
    pair.pump()
    assert near.reset_code is (ResetCode.INTERNAL if resetter == "far" else ResetCode.TIMEOUT)
    assert far.reset_code is (ResetCode.TIMEOUT if resetter == "near" else ResetCode.INTERNAL)
    assert pair.relay.tunnel.statistics().streams == 0
    assert pair.device.tunnel.statistics().streams == 0
    assert pair.relay.tunnel.statistics().buffered == 0
    # The tunnel goes on.
    near, _ = pair.open(echo)
    near.write(b"still here")
    pair.pump()
    assert near.received == b"still here"


@pytest.mark.parametrize("steps", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("order", ["eE", "Ee"])
def test_both_halves_end(pair: Pair, steps: str, order: str) -> None:
    near, far = pair.open()
    assert near.stream is not None
    assert far.stream is not None
    do(pair, near, far, steps)
    do(pair, near, far, order)
    near.stream.resume_reading()
    far.stream.resume_reading()
    pair.pump()
    assert near.eof
    assert far.eof
    assert near.lost == [None]
    assert far.lost == [None]
    sent = {"w": 1000, "u": 3_000_000}
    assert len(far.received) == sum(sent.get(step, 0) for step in steps)
    assert len(near.received) == sum(sent.get(step.lower(), 0) for step in steps if step.isupper())


def test_a_half_closed_stream_still_carries_the_other_half(pair: Pair) -> None:
    near, far = pair.open()
    assert near.stream is not None
    near.stream.write_eof()
    pair.pump()
    assert far.eof
    for _ in range(10):
        far.write(b"x" * 100_000)
        pair.pump()
    assert len(near.received) == 1_000_000
    assert not near.lost


# Sinks that break the rules.


class Raising(RecordingSink):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def data_received(self, data: Buffer) -> None:
        super().data_received(data)
        if self.where == "data_received":
            raise ValueError("boom")

    def eof_received(self) -> None:
        super().eof_received()
        if self.where == "eof_received":
            raise ValueError("boom")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.where == "connection_lost":
            raise ValueError("boom")

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.where == "resume_writing":
            raise ValueError("boom")


@pytest.mark.parametrize("where", ["data_received", "eof_received", "connection_lost", "resume_writing"])
def test_a_sink_that_raises_loses_its_stream_and_no_other(
    pair: Pair, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    other, _ = pair.open(echo)
    raising = Raising(where)
    near, far = pair.open(sink=raising)
    assert far.stream is not None
    if where == "resume_writing":
        near.write(b"x" * 1_000_000)
    else:
        far.write(b"x")
        far.stream.write_eof()
    pair.pump()
    if where == "connection_lost":
        raising.stream.write_eof()  # type: ignore[union-attr]
        pair.pump()
        assert near.lost == [None]
    else:
        assert near.reset_code is ResetCode.INTERNAL
        assert far.reset_code is ResetCode.INTERNAL
    assert "boom" in caplog.text
    other.write(b"fine")
    pair.pump()
    assert other.received == b"fine"
    assert not pair.relay.closed


def test_handlers_that_raise_end_their_stream_or_their_tunnel(caplog: pytest.LogCaptureFixture, pair: Pair) -> None:
    def serve(_: PendingStream) -> RecordingSink:
        raise ValueError("boom")

    pair.device.serve["web"] = serve
    near, _ = pair.ask()
    pair.pump()
    assert isinstance(near.result, StreamLostError)
    assert near.result.reset_code is ResetCode.INTERNAL
    assert not pair.device.closed
    assert "boom" in caplog.text


@pytest.mark.parametrize("end_type", [HomeportRelay, RawRelay])
def test_a_handler_that_raises_on_opening_closes_the_tunnel(
    end_type: type[HomeportRelay | RawRelay], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(RecordingRelay):
        def tunnel_opened(self, tunnel: object) -> None:
            raise ValueError("boom")

    end = end_type(Broken())
    core = end.open(WebSocketLink(Side.SERVER), config=TunnelConfig(), clock=FakeClock(), budget=None)
    FakeShell(core)
    assert core.state is State.CLOSING
    assert "boom" in caplog.text


# The end of a tunnel.


@both_dialects
@pytest.mark.parametrize("closer", ["relay", "device"])
def test_close(subprotocol: Subprotocol, closer: str) -> None:
    pair = Pair(subprotocol)
    near, far = pair.open()
    near.write(b"x" * 500_000)  # some of it never leaves
    here, there = (pair.relay, pair.device) if closer == "relay" else (pair.device, pair.relay)
    here.tunnel.close("revoked")
    here.tunnel.close("again")
    assert not here.closed  # soon
    assert not near.lost
    assert here.tunnel.closed
    pair.pump()
    assert near.reset_code is ResetCode.SESSION_LOST
    assert far.reset_code is ResetCode.SESSION_LOST
    (own,) = here.closed
    (other,) = there.closed
    assert (own.reason, own.by_peer) == ("revoked", False)
    assert (other.reason, other.by_peer) == ("revoked", True)
    assert pair.relay_core.finished
    assert pair.device_core.finished
    assert pair.pump() == 0
    assert repr(pair.relay_end).startswith(f"<{type(pair.relay_end).__name__} finished")


def test_bytes_that_were_written_before_the_close_but_not_taken_are_dropped(pair: Pair) -> None:
    near, _ = pair.open()
    near.write(b"x" * 200_000)
    pair.relay.tunnel.close()
    assert len(pair.relay_shell.take()) < 200


def test_what_was_said_on_the_control_stream_just_before_the_close_goes_out(pair: Pair) -> None:
    near, far = pair.open()
    near.write(b"x" * 500_000)
    pair.relay.tunnel.drain(reconnect_after=3.0)
    pair.relay.tunnel.close("draining")
    pair.pump()
    assert [drain.reconnect_after for drain in pair.device.drains] == [3.0]
    assert far.reset_code is ResetCode.SESSION_LOST
    assert pair.device.closed[0].reason == "draining"


def test_a_drain_that_is_over_at_once_is_still_announced(pair: Pair) -> None:
    pair.relay.tunnel_drained = pair.relay.tunnel.close  # type: ignore[method-assign]
    pair.relay.tunnel.drain(reconnect_after=3.0)
    pair.pump()
    assert [drain.reconnect_after for drain in pair.device.drains] == [3.0]
    assert len(pair.device.closed) == 1


def test_a_sink_may_use_a_stream_whose_reset_came_in_the_same_read(pair: Pair) -> None:
    class Answering(RecordingSink):
        def data_received(self, data: Buffer) -> None:
            super().data_received(data)
            assert self.stream is not None
            self.stream.pause_reading()
            self.write(b"x" * 1_000_000)
            self.stream.write_eof()
            self.stream.resume_reading()

    near, far = pair.open(sink=Answering())
    assert far.stream is not None
    far.write(b"question")
    data = pair.device_shell.take()
    far.stream.reset()
    pair.relay_core.receive(data + pair.device_shell.take())
    assert near.received == b"question"
    assert near.reset_code is ResetCode.CANCELLED
    other, _ = pair.open(echo)
    other.write(b"fine")
    pair.pump()
    assert other.received == b"fine"


def test_a_close_that_is_not_answered_is_cut_after_its_time(pair: Pair) -> None:
    pair.relay.tunnel.close()
    pair.relay_shell.take()  # and lost
    timeout = TunnelConfig().close_timeout
    pair.clock.now += timeout - 0.001
    pair.relay_core.tick()
    assert not pair.relay_core.finished
    assert pair.relay_core.deadline == pytest.approx(pair.clock.now + 0.001)
    pair.clock.now += 0.001
    pair.relay_core.tick()
    assert pair.relay_core.finished
    assert len(pair.relay.closed) == 1


def test_the_connection_ends_without_a_word(pair: Pair) -> None:
    near, far = pair.open()
    pair.relay_core.receive_eof()
    assert near.reset_code is ResetCode.SESSION_LOST
    (error,) = pair.relay.closed
    assert (error.reason, error.by_peer) == ("network", False)
    pair.device_core.connection_lost(ConnectionResetError("reset by peer"))
    assert far.reset_code is ResetCode.SESSION_LOST
    assert "reset by peer" in pair.device.closed[0].detail
    pair.device_core.connection_lost(None)
    pair.relay_core.connection_lost(None)
    assert len(pair.device.closed) == len(pair.relay.closed) == 1


def test_nothing_can_be_opened_on_a_closed_tunnel(pair: Pair) -> None:
    pair.relay.tunnel.close()
    near, _ = pair.ask()
    assert near.result is None
    pair.pump()
    assert near.result is not None
    assert type(near.result).__name__ == "TunnelLostError"


VIOLATIONS = {
    "garbage": (b"GET / HTTP/1.1\r\n\r\n", CloseReason.PROTOCOL_ERROR),
    "a text frame": (frame(TEXT, b"hello", key=KEY), CloseReason.PROTOCOL_ERROR),
    "a frame without mask": (frame(BINARY, b"hello"), CloseReason.PROTOCOL_ERROR),
    "an oversize frame": (frame(BINARY, b"", length=2**40, key=KEY), CloseReason.LIMIT),
    "a flood of pings": (frame(PING, bytes(120), key=KEY) * 1001, CloseReason.LIMIT),
    "a yamux version": (frame(BINARY, b"\x01" + bytes(11), key=KEY), CloseReason.PROTOCOL_ERROR),
    "a yamux type": (frame(BINARY, b"\x00\x09" + bytes(10), key=KEY), CloseReason.PROTOCOL_ERROR),
    "data on stream 0": (frame(BINARY, bytes(11) + b"\x01", key=KEY), CloseReason.PROTOCOL_ERROR),
}


@both_dialects
@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_ends_the_tunnel_and_says_why(subprotocol: Subprotocol, chunk: int | None, name: str) -> None:
    data, reason = VIOLATIONS[name]
    pair = Pair(subprotocol)
    near, _ = pair.open()
    for start in range(0, len(data), chunk or len(data)):
        pair.relay_core.receive(data[start : start + (chunk or len(data))])
    assert near.reset_code is ResetCode.SESSION_LOST
    (error,) = pair.relay.closed
    assert (error.reason, error.by_peer) == (reason, False)
    assert pair.relay_core.state is State.CLOSING
    # The peer is told, and given time to hang up; what it still sends is dropped.
    pair.device_core.receive(pair.relay_shell.take())
    assert [(error.reason, error.by_peer) for error in pair.device.closed] == [(reason, True)]
    pair.relay_core.receive(bytes(100_000))
    assert pair.relay_shell.take() == b""
    pair.relay_core.receive_eof()
    assert pair.relay_core.finished
    assert len(pair.relay.closed) == 1


def test_what_came_before_a_violation_is_delivered(pair: Pair) -> None:
    near, far = pair.open()
    far.write(b"the last words")
    pair.relay_core.receive(pair.device_shell.take() + b"\xff\xff")
    assert near.received == b"the last words"
    assert near.reset_code is ResetCode.SESSION_LOST


# Time.


def test_a_silent_peer_is_found_dead(pair: Pair) -> None:
    near, _ = pair.open()
    config = YamuxConfig()
    pair.to_relay_blocked = True
    began = pair.relay.tunnel.statistics().last_received
    while not pair.relay.closed:
        pair.clock.now = max(pair.relay_core.deadline, pair.clock.now)
        assert pair.clock.now <= began + config.dead_after + 0.01
        pair.relay_core.tick()
    assert pair.clock.now == pytest.approx(began + config.dead_after, abs=0.01)
    assert pair.relay.closed[0].reason == "silence"
    assert near.reset_code is ResetCode.SESSION_LOST
    assert pair.relay_core.finished
    assert pair.relay_shell.take() == b""


@both_dialects
def test_an_idle_tunnel_lives_on(subprotocol: Subprotocol) -> None:
    pair = Pair(subprotocol)
    pair.advance(3600.0)
    assert not pair.relay.closed
    assert not pair.device.closed
    rtt = pair.relay.tunnel.statistics().rtt
    assert rtt is not None
    assert pair.clock.now - pair.relay.tunnel.statistics().last_received <= YamuxConfig().probe_interval


def test_a_busy_link_is_not_declared_dead(pair: Pair) -> None:
    """Bytes in one direction only, for a minute, from a peer that has no room to answer probes."""
    near, far = pair.open()
    pair.to_device_blocked = True
    for _ in range(60):
        pair.clock.now += 1.0
        far.write(b"x" * 100)
        pair.relay_core.receive(pair.device_shell.take())
        pair.relay_core.tick()
    assert len(near.received) == 6000
    assert not pair.relay.closed


def test_what_the_link_keeps_to_itself_is_life_too(pair: Pair) -> None:
    """Pings of the WebSocket, and parts of a frame's head: no byte of them reaches the session."""
    masked_ping = b"\x89\x80" + b"mask"
    for _ in range(60):
        pair.clock.now += 1.0
        pair.relay_core.receive(masked_ping[:1])
        pair.relay_core.receive(masked_ping[1:])
        pair.relay_core.tick()
    assert not pair.relay.closed


def test_idle_streams_are_reset_and_busy_ones_are_not() -> None:
    pair = Pair(config=TunnelConfig(stream_idle_timeout=100.0), device_config=TunnelConfig())
    idle, _ = pair.open()
    upload, _ = pair.open()
    _, download = pair.open()
    for _ in range(13):
        pair.advance(10.0)
        upload.write(b"x")
        download.write(b"x")
        pair.pump()
    assert idle.reset_code is ResetCode.TIMEOUT
    assert not upload.lost
    assert not download.lost
    assert not pair.relay.closed  # the control stream idles as it likes
    pair.advance(99.0)
    assert not upload.lost
    pair.advance(30.0)
    assert upload.reset_code is ResetCode.TIMEOUT
    pair.advance(1000.0)
    assert not pair.relay.closed


def test_streams_may_idle_for_ever_by_default(pair: Pair) -> None:
    near, _ = pair.open()
    pair.advance(100_000.0)
    assert not near.lost


# What shells rely on.


def test_a_shell_is_asked_whenever_there_is_something_to_do(pair: Pair) -> None:
    near, _ = pair.open()
    assert near.stream is not None
    shell = pair.relay_shell
    for act in (lambda: near.write(b"x"), near.stream.write_eof, near.stream.reset):
        assert not shell.asked
        act()  # type: ignore[no-untyped-call]
        assert shell.asked
        pair.pump()
    pair.ask()
    assert shell.asked
    pair.pump()
    pair.relay.tunnel.drain()
    assert shell.asked
    pair.pump()
    pair.relay.tunnel.close()
    assert shell.asked


def test_one_flush_is_bounded(pair: Pair) -> None:
    near, _ = pair.open()
    for _ in range(4):
        near.write(bytes(65_536))
    frame_size = YamuxConfig().max_frame
    sizes = []
    while pair.relay_core.has_output:
        sizes.append(sum(map(len, pair.relay_core.data_to_send())))
    assert sum(sizes) > 4 * 65_536 - 1
    assert max(sizes) <= FLUSH_SIZE + frame_size


def test_reprs_tell_the_state(pair: Pair) -> None:
    near, _ = pair.open()
    assert near.stream is not None
    assert repr(pair.relay_core) == "<TunnelCore open streams=2 <WebSocketLink server open>>"
    assert repr(pair.relay_end) == "<HomeportRelay open streams=1>"
    assert repr(near.stream) == "<TunnelStream 2 open>"
    near.stream.pause_reading()
    near.stream.write_eof()
    assert repr(near.stream) == "<TunnelStream 2 eof sent, reading paused>"
    pair.relay.tunnel.drain()
    assert repr(pair.relay_end) == "<HomeportRelay open draining streams=1>"
    near.stream.reset()
    assert repr(near.stream) == "<TunnelStream 2 over>"


def test_the_hellos_arrive(pair: Pair) -> None:
    assert pair.relay.hello == HELLO
    assert pair.device.hello == RELAY_HELLO
