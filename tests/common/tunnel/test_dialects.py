"""How a stream to a service begins, in both dialects, and what a peer can do wrong about it."""

from __future__ import annotations

import msgpack
import pytest

from common.tunnel.config import TunnelConfig
from common.tunnel.core import TunnelCore
from common.tunnel.dialects import open_device_tunnel, open_relay_tunnel
from common.tunnel.errors import (
    OpenLimitError,
    OpenRefusedError,
    OpenTimeoutError,
    StreamLostError,
    TunnelDrainingError,
    TunnelLostError,
)
from common.tunnel.interfaces import CloseReason, Subprotocol
from common.tunnel.seams import State
from common.tunnel.stream import ResetCode
from common.tunnel.websocket import Side, WebSocketLink
from common.wire import (
    MAX_MESSAGE,
    DeviceHello,
    Drain,
    Health,
    Message,
    OpenRefusal,
    RelayHello,
    Service,
    ServicesChanged,
    Stats,
    StreamAnswer,
    StreamOpen,
    encode,
)
from common.yamux import Config as YamuxConfig
from common.yamux import DataReceived, StreamOpened, StreamReset
from tests.common.tunnel.fakes import HELLO, RELAY_HELLO, FakeClock, RecordingDevice, RecordingRelay, RecordingSink
from tests.common.tunnel.pair import Pair, RawPeer, echo

both_dialects = pytest.mark.parametrize("subprotocol", list(Subprotocol))


@pytest.fixture
def pair() -> Pair:
    return Pair()


# Opening.


@both_dialects
def test_the_result_never_comes_from_inside_the_call(subprotocol: Subprotocol) -> None:
    pair = Pair(subprotocol)
    near, _ = pair.ask()
    assert near.result is None
    pair.pump()
    if subprotocol is Subprotocol.YAMUX:
        assert near.result is near.stream  # nobody is waited for
    pair.relay.tunnel.close()
    late, _ = pair.ask()
    assert late.result is None
    pair.pump()
    assert isinstance(late.result, TunnelLostError)


def test_the_request_says_what_is_wanted(pair: Pair) -> None:
    pair.ask("ssh", timeout=2.5)
    pair.pump()
    (request,) = pair.device.requests
    assert (request.service, request.timeout, request.traceparent) == ("ssh", 2.5, "00-a-b-01")
    assert repr(request) == "<HomeportPending 'ssh' waiting>"


def test_raw_yamux_says_nothing() -> None:
    pair = Pair(Subprotocol.YAMUX)
    pair.ask("ssh")
    pair.pump()
    (request,) = pair.device.requests
    assert (request.service, request.traceparent) == ("", None)


@pytest.mark.parametrize("code", [*OpenRefusal, "some_later_word"])
def test_a_refusal_comes_with_its_code(pair: Pair, code: str) -> None:
    near, _ = pair.ask()
    pair.pump()
    pair.device.requests[0].refuse(code, "nobody home")
    pair.pump()
    assert isinstance(near.result, OpenRefusedError)
    assert (near.result.reason, near.result.detail) == (code, "nobody home")
    assert near.lost == []
    assert pair.relay.tunnel.statistics().streams == pair.device.tunnel.statistics().streams == 0


def test_a_refusal_longer_than_a_message_may_be_is_cut(pair: Pair) -> None:
    near, _ = pair.ask()
    pair.pump()
    pair.device.requests[0].refuse("c" * 500, "\N{GRINNING FACE}" * 5000)
    pair.pump()
    assert isinstance(near.result, OpenRefusedError)
    assert near.result.detail == "\N{GRINNING FACE}" * 1024


def test_a_raw_refusal_is_a_reset() -> None:
    pair = Pair(Subprotocol.YAMUX)
    near, _ = pair.ask()
    pair.pump()
    pair.device.requests[0].refuse(OpenRefusal.UNREACHABLE)
    pair.pump()
    assert near.reset_code is ResetCode.REFUSED


def test_no_answer_in_time(pair: Pair) -> None:
    slow, _ = pair.ask(timeout=3.0)
    slower, _ = pair.ask(timeout=4.0)
    pair.advance(2.999)
    assert slow.result is None
    pair.advance(0.001)
    assert isinstance(slow.result, OpenTimeoutError)
    assert slower.result is None
    assert pair.device.tunnel.statistics().streams == 1
    pair.device.requests[1].accept(RecordingSink())
    pair.pump()
    assert slower.result is slower.stream


def test_a_short_timeout_moves_the_deadline(pair: Pair) -> None:
    pair.advance(1.0)
    before = pair.relay_core.deadline
    near, _ = pair.ask(timeout=0.25)
    assert pair.relay_core.deadline == pytest.approx(pair.clock.now + 0.25)
    assert pair.relay_core.deadline < before
    pair.to_device_blocked = True
    pair.advance(0.25)
    assert isinstance(near.result, OpenTimeoutError)


def test_the_request_is_lost_when_the_relay_gives_up(pair: Pair) -> None:
    lost: list[str] = []
    pair.ask(timeout=1.0)
    pair.pump()
    (request,) = pair.device.requests
    request.on_lost = lambda: lost.append("lost")
    pair.advance(1.0)
    assert lost == ["lost"]
    # An answer that comes too late is no harm.
    sink = RecordingSink()
    stream = request.accept(sink)
    stream.write(b"late")
    pair.pump()
    assert sink.reset_code is ResetCode.TIMEOUT
    assert lost == ["lost"]


def test_a_late_refusal_is_no_harm(pair: Pair) -> None:
    pair.ask(timeout=1.0)
    pair.advance(1.0)
    pair.device.requests[0].refuse(OpenRefusal.FAILED)
    assert pair.pump() == 0


def test_answering_twice_is_our_own_mistake(pair: Pair) -> None:
    pair.ask()
    pair.ask()
    pair.pump()
    first, second = pair.device.requests
    first.accept(RecordingSink())
    second.refuse(OpenRefusal.FAILED)
    for request in (first, second):
        with pytest.raises(ValueError, match="answered before"):
            request.accept(RecordingSink())
        with pytest.raises(ValueError, match="answered before"):
            request.refuse(OpenRefusal.FAILED)


@both_dialects
@pytest.mark.parametrize("moment", ["before it left", "while it waits", "after the result"])
def test_cancel(subprotocol: Subprotocol, moment: str) -> None:
    pair = Pair(subprotocol)
    near, ticket = pair.ask()
    if moment == "before it left":
        ticket.cancel()
        pair.pump()
        assert pair.device.requests == []
    else:
        pair.pump()
        lost: list[str] = []
        (request,) = pair.device.requests
        request.on_lost = lambda: lost.append("lost")
        if moment == "after the result":
            request.accept(RecordingSink())
            pair.pump()
        ticket.cancel()
        ticket.cancel()
        pair.pump()
        if subprotocol is Subprotocol.HOMEPORT_V1 and moment == "while it waits":
            assert lost == ["lost"]
    if moment == "after the result" or (subprotocol is Subprotocol.YAMUX and moment == "while it waits"):
        assert near.result is near.stream is not None
        assert not near.lost
    else:
        assert near.result is None
        assert pair.relay.tunnel.statistics().streams == 0
    assert near.lost == []


def test_bytes_may_follow_the_answer_in_the_same_read(pair: Pair) -> None:
    near, _ = pair.ask()
    pair.pump()
    stream = pair.device.requests[0].accept(RecordingSink())
    stream.write(b"220 ready\r\n")
    stream.write_eof()
    pair.relay_core.receive(pair.device_shell.take())
    assert near.result is near.stream
    assert near.received == b"220 ready\r\n"
    assert near.eof


def test_a_sink_may_pause_in_the_result(pair: Pair) -> None:
    class Pausing(RecordingSink):
        def got_result(self, result: object) -> None:
            super().got_result(result)  # type: ignore[arg-type]
            assert self.stream is not None
            self.stream.pause_reading()

    near, _ = pair.ask(sink=Pausing())
    pair.pump()
    far = RecordingSink()
    far.stream = pair.device.requests[0].accept(far)
    for _ in range(20):
        far.write(b"x" * 100_000)
    pair.pump()
    window = YamuxConfig().initial_window
    assert len(near.received) <= window
    assert near.stream is not None
    near.stream.resume_reading()
    pair.pump()
    assert len(near.received) == 2_000_000


def test_bytes_and_eof_that_come_before_the_answer_are_held(pair: Pair) -> None:
    peer, core, device = device_and_raw_relay()
    stream_id = peer.session.open_stream(peer.clock())
    peer.session.send_data(stream_id, encode(StreamOpen(service="web")) + b"early ")
    peer.session.send_data(stream_id, b"bird")
    peer.session.end_stream(stream_id)
    peer.send()
    (request,) = device.requests
    sink = RecordingSink()
    request.accept(sink)
    assert sink.received == b""  # soon
    core.settle()
    assert sink.received == b"early bird"
    assert sink.eof


def test_accepting_what_was_lost_with_its_connection_is_told(pair: Pair) -> None:
    """Nobody comes back to a tunnel that has ended: the sink waited for ever, and with it a connection to a service."""
    pair.ask()
    pair.pump()
    pair.device_core.connection_lost(None)
    sink = RecordingSink()
    pair.device.requests[0].accept(sink)
    assert sink.reset_code is ResetCode.SESSION_LOST


def test_what_is_held_before_the_answer_is_one_window() -> None:
    peer, core, device = device_and_raw_relay()
    stream_id = peer.session.open_stream(peer.clock())
    request_bytes = encode(StreamOpen(service="web"))
    peer.session.send_data(stream_id, request_bytes + bytes(5_000_000))
    for _ in range(10):
        peer.send()
    (request,) = device.requests
    window = YamuxConfig().initial_window
    statistics = device.tunnel.statistics()
    assert statistics.bytes_in <= window + len(encode(RELAY_HELLO))
    sink = RecordingSink(limit=1)  # pauses as soon as it has something
    sink.stream = request.accept(sink)
    core.settle()
    held = window - len(request_bytes)
    assert len(sink.received) == held
    for _ in range(10):
        peer.send()
    assert len(sink.received) == held
    sink.limit = None
    sink.stream.resume_reading()
    while len(sink.received) < 5_000_000:
        before = len(sink.received)
        peer.read()
        peer.send()
        assert len(sink.received) > before


def test_a_sink_may_reset_while_it_is_given_what_was_held() -> None:
    class Resetting(RecordingSink):
        def data_received(self, data: object) -> None:
            super().data_received(data)  # type: ignore[arg-type]
            assert self.stream is not None
            self.stream.reset(ResetCode.INTERNAL)

    peer, core, device = device_and_raw_relay()
    stream_id = peer.session.open_stream(peer.clock())
    peer.session.send_data(stream_id, encode(StreamOpen(service="web")) + b"one")
    peer.send()
    peer.session.send_data(stream_id, b"two")
    peer.session.end_stream(stream_id)
    peer.send()
    sink = Resetting()
    sink.stream = device.requests[0].accept(sink)
    core.settle()
    assert sink.received == b"one"
    assert not sink.eof
    assert sink.reset_code is ResetCode.INTERNAL


def test_a_stream_that_is_lost_before_the_answer_tells_the_late_sink(pair: Pair) -> None:
    pair.ask()
    pair.pump()
    (request,) = pair.device.requests
    pair.relay.tunnel.close()
    pair.pump()
    sink = RecordingSink()
    request.accept(sink)
    assert sink.lost == []
    pair.device_core.settle()
    assert sink.reset_code is ResetCode.SESSION_LOST


@both_dialects
def test_a_limit_on_streams_of_our_own(subprotocol: Subprotocol) -> None:
    limit = 3 if subprotocol is Subprotocol.HOMEPORT_V1 else 2  # the control stream is one
    pair = Pair(subprotocol, TunnelConfig(yamux=YamuxConfig(max_streams=limit)), device_config=TunnelConfig())
    pair.ask()
    pair.ask()
    over, _ = pair.ask()
    pair.pump()
    assert isinstance(over.result, OpenLimitError)
    assert over.result.retry_after is not None


def test_a_limit_on_streams_at_the_device() -> None:
    pair = Pair(config=TunnelConfig(), device_config=TunnelConfig(yamux=YamuxConfig(max_streams=2)))
    fits, _ = pair.ask()
    over, _ = pair.ask()
    pair.pump()
    assert fits.result is None
    assert isinstance(over.result, OpenLimitError)
    assert len(pair.device.requests) == 1


def test_streams_that_wait_for_an_answer_are_lost_with_the_tunnel(pair: Pair) -> None:
    waiting, _ = pair.ask()
    pair.pump()
    pair.relay_core.receive_eof()
    assert isinstance(waiting.result, TunnelLostError)
    assert waiting.lost == []


# Draining.


@both_dialects
def test_the_relay_drains(subprotocol: Subprotocol) -> None:
    pair = Pair(subprotocol)
    near, _ = pair.open(echo)
    pair.relay.tunnel.drain(reconnect_after=12.5, reason="upgrade")
    pair.relay.tunnel.drain(reconnect_after=99.0)
    pair.pump()
    expected = Drain(reconnect_after=12.5, reason="upgrade") if subprotocol is Subprotocol.HOMEPORT_V1 else Drain()
    assert pair.device.drains == [expected]
    assert pair.relay.tunnel.statistics().draining
    refused, _ = pair.ask()
    pair.pump()
    assert isinstance(refused.result, TunnelDrainingError)
    near.write(b"open streams go on")
    pair.pump()
    assert near.received == b"open streams go on"
    assert pair.relay.drained == 0
    near.stream.write_eof()  # type: ignore[union-attr]
    pair.pump()
    assert pair.relay.drained == 1
    assert not pair.relay.closed
    pair.relay.tunnel.close("draining")
    pair.pump()
    assert pair.device.closed[0].reason == CloseReason.DRAINING


def test_a_go_away_that_no_reason_follows_is_a_drain() -> None:
    pair = Pair()
    pair.relay_core.session.go_away()
    pair.relay_core.output()
    pair.pump()
    assert pair.device.drains == []
    pair.advance(5.0)
    assert pair.device.drains == [Drain()]


def test_the_reason_behind_a_go_away_counts() -> None:
    pair = Pair()
    pair.relay_core.session.go_away()
    pair.relay_core.output()
    pair.pump()
    pair.relay.tunnel.drain(reconnect_after=12.5)
    pair.advance(5.0)
    assert pair.device.drains == [Drain(reconnect_after=12.5)]


def test_a_close_behind_a_go_away_counts() -> None:
    pair = Pair()
    pair.relay_core.session.go_away()
    pair.relay_core.output()
    pair.pump()
    pair.relay.tunnel.close(CloseReason.REPLACED)
    pair.advance(5.0)
    assert pair.device.drains == []
    assert [lost.reason for lost in pair.device.closed] == [CloseReason.REPLACED]


@both_dialects
def test_the_device_drains(subprotocol: Subprotocol) -> None:
    pair = Pair(subprotocol)
    near, _ = pair.open(echo)
    pair.device.tunnel.drain()
    pair.pump()
    assert pair.relay.drains == [Drain()]
    refused, _ = pair.ask()
    pair.pump()
    assert isinstance(refused.result, TunnelDrainingError)
    near.stream.reset()  # type: ignore[union-attr]
    pair.pump()
    assert pair.device.drained == 1


@both_dialects
@pytest.mark.parametrize("side", ["relay", "device"])
def test_a_drain_without_streams_is_done_at_once(subprotocol: Subprotocol, side: str) -> None:
    pair = Pair(subprotocol)
    handler = pair.relay if side == "relay" else pair.device
    handler.tunnel.drain()
    assert handler.drained == 0  # soon
    pair.pump()
    assert handler.drained == 1
    handler.tunnel.close()
    handler.tunnel.drain()
    pair.pump()
    assert handler.drained == 1


def test_a_tunnel_that_is_closed_while_draining_is_not_drained(pair: Pair) -> None:
    pair.open()
    pair.relay.tunnel.drain()
    pair.relay.tunnel.close()
    pair.pump()
    assert pair.relay.drained == 0
    assert len(pair.relay.closed) == 1


def test_an_open_that_crosses_a_drain_is_refused_as_draining(pair: Pair) -> None:
    pair.to_relay_blocked = True
    pair.device.tunnel.drain()
    crossing, _ = pair.ask()
    pair.pump()
    pair.to_relay_blocked = False
    pair.pump()
    assert isinstance(crossing.result, TunnelDrainingError)


def test_a_peer_that_says_goaway_again_and_again_is_heard_once() -> None:
    peer, relay = relay_and_raw_device(Subprotocol.YAMUX)
    for _ in range(5):
        peer.send_yamux(b"\x00\x03" + bytes(10))
    assert relay.drains == [Drain()]


# The control stream.


def test_services_and_stats(pair: Pair) -> None:
    services = [Service(name="web", health=Health.UNHEALTHY), Service(name="ssh", kind="tcp")]
    pair.device.tunnel.update_services(services)
    pair.device.tunnel.send_stats(Stats(uptime=5.0, streams=2, figures={"load": 0.5}))
    pair.pump()
    assert pair.relay.services == [services]
    assert pair.relay.stats == [Stats(uptime=5.0, streams=2, figures={"load": 0.5})]


def test_control_messages_wait_for_a_peer_that_does_not_read_within_bounds(pair: Pair) -> None:
    """Of each type, only the newest waits beyond the high-water mark."""
    pair.to_relay_blocked = True
    config = TunnelConfig()
    one = [Service(name="s", kind="k" * 100)] * 200
    for i in range(100):
        pair.device.tunnel.update_services([*one, Service(name=f"last-{i}")])
        pair.device.tunnel.send_stats(Stats(uptime=float(i)))
    assert pair.device.tunnel.statistics().buffered <= config.high_water + 2 * MAX_MESSAGE
    pair.to_relay_blocked = False
    pair.pump()
    assert pair.relay.services[-1][-1].name == "last-99"
    assert len(pair.relay.services) < 30
    pair.device.tunnel.send_stats(Stats(uptime=1000.0))
    pair.pump()
    assert pair.relay.stats[-1].uptime == 1000.0


def test_raw_yamux_has_no_control_stream_to_say_things_on() -> None:
    pair = Pair(Subprotocol.YAMUX)
    pair.device.tunnel.update_services([Service(name="web")])
    pair.device.tunnel.send_stats(Stats())
    pair.relay.tunnel.greet(RELAY_HELLO)
    pair.pump()
    assert pair.relay.services == []
    assert pair.relay.hello is None
    assert pair.device.hello is None
    assert pair.relay.tunnel.statistics().streams == 0


def test_a_hello_before_the_control_stream_waits_for_it() -> None:
    pair = Pair(greeted=False)
    pair.relay_shell.take()
    pair.relay.tunnel.greet(RELAY_HELLO)
    assert pair.relay_shell.take() == b""
    pair.pump()
    assert pair.device.hello == RELAY_HELLO


def test_a_device_gives_up_as_early_as_its_relay_does() -> None:
    """The relay gave up after 2 s and the device after 15 s: for 13 s the device was out of reach on a dead line."""
    pair = Pair(greeted=False)
    pair.relay.tunnel.greet(
        RelayHello(software="test-relay/1", session_id="ses_1", epoch=7, probe_interval=0.5, dead_after=2.0)
    )
    pair.advance(1.0)
    pair.advance(1.9, pumping=False)
    assert not pair.device.closed
    pair.advance(0.7, pumping=False)
    assert pair.device.closed[0].reason == "silence"


def relay_and_raw_device(subprotocol: Subprotocol = Subprotocol.HOMEPORT_V1) -> tuple[RawPeer, RecordingRelay]:
    """A relay's end, and a device that says what a test likes."""
    clock = FakeClock()
    relay = RecordingRelay()
    core, _ = open_relay_tunnel(subprotocol, WebSocketLink(Side.SERVER), relay, config=TunnelConfig(), clock=clock)
    return RawPeer(core, Side.CLIENT, clock), relay


def device_and_raw_relay() -> tuple[RawPeer, TunnelCore, RecordingDevice]:
    """A device's end, and a relay that says what a test likes, but for its hello."""
    clock = FakeClock()
    device = RecordingDevice()
    core, _ = open_device_tunnel(
        Subprotocol.HOMEPORT_V1,
        WebSocketLink(Side.CLIENT),
        device,
        hello=HELLO,
        config=TunnelConfig(),
        clock=clock,
    )
    peer = RawPeer(core, Side.SERVER, clock)
    peer.read()
    peer.session.send_data(1, encode(RELAY_HELLO))
    peer.send()
    return peer, core, device


def say(peer: RawPeer, *messages: Message | bytes) -> None:
    """Open the control stream if there is none, and say things on it."""
    if peer.session.stream_count == 0:
        assert peer.session.open_stream(peer.clock()) == 1
    for message in messages:
        peer.session.send_data(1, message if isinstance(message, bytes) else encode(message))
    peer.send()


def test_no_hello_in_time_ends_the_tunnel() -> None:
    peer, relay = relay_and_raw_device()
    timeout = TunnelConfig().hello_timeout
    peer.clock.now += timeout - 0.001
    peer.core.tick()
    assert not relay.closed
    peer.clock.now += 0.001
    peer.core.tick()
    assert relay.closed[0].reason == CloseReason.HELLO_TIMEOUT
    assert peer.core.state is State.CLOSING


def test_a_hello_in_time_does_not() -> None:
    peer, relay = relay_and_raw_device()
    say(peer, HELLO)
    peer.clock.now += 12.0
    peer.core.tick()
    assert relay.hello == HELLO
    assert not relay.closed


CONTROL_VIOLATIONS: dict[str, list[Message | bytes]] = {
    "stats before hello": [Stats()],
    "drain before hello": [Drain()],
    "a second hello": [HELLO, HELLO],
    "a relay's message": [HELLO, RELAY_HELLO],
    "an answer": [HELLO, StreamAnswer(ok=True)],
    "garbage": [b"\x00\x00\x00\x02\xc1\xc1"],
    "a huge message": [b"\xff\xff\xff\xff"],
    "HTTP": [b"GET / HTTP/1.1\r\n\r\n"],
    "a hello of a later version": [DeviceHello(software="x", version=3, min_version=2)],
}


@pytest.mark.parametrize("name", CONTROL_VIOLATIONS)
def test_what_a_device_may_not_say(name: str) -> None:
    peer, relay = relay_and_raw_device()
    say(peer, *CONTROL_VIOLATIONS[name])
    (error,) = relay.closed
    assert error.reason == CloseReason.PROTOCOL_ERROR
    assert not error.by_peer
    assert peer.link.end is not None
    assert peer.link.end.reason == CloseReason.PROTOCOL_ERROR


def test_a_flood_of_control_messages_ends_the_tunnel() -> None:
    peer, relay = relay_and_raw_device()
    burst = TunnelConfig().control_messages_burst
    say(peer, HELLO, *[Stats(uptime=1.0)] * (burst - 1))
    assert len(relay.stats) == burst - 1
    peer.clock.now += 1.0
    say(peer, *[Stats(uptime=2.0)] * 20)
    assert not relay.closed
    say(peer, Stats(uptime=3.0))
    assert relay.closed[0].reason == CloseReason.LIMIT
    assert relay.stats[-1].uptime == 2.0


@pytest.mark.parametrize("how", ["eof", "reset"])
def test_a_control_stream_that_ends_ends_the_tunnel(how: str) -> None:
    peer, relay = relay_and_raw_device()
    say(peer, HELLO)
    if how == "eof":
        peer.session.end_stream(1)
    else:
        peer.session.reset_stream(1)
    peer.send()
    assert relay.closed[0].reason == CloseReason.PROTOCOL_ERROR


def test_a_device_may_open_no_other_stream() -> None:
    peer, relay = relay_and_raw_device()
    say(peer, HELLO)
    second = peer.session.open_stream(peer.clock())
    peer.session.send_data(second, b"let me in")
    peer.send()
    peer.read()
    assert StreamReset(second, ResetCode.REFUSED, True) in peer.events
    assert not relay.closed
    say(peer, Stats(uptime=1.0))
    assert len(relay.stats) == 1


def test_a_raw_device_may_open_no_stream_at_all() -> None:
    peer, relay = relay_and_raw_device(Subprotocol.YAMUX)
    first = peer.session.open_stream(peer.clock())
    peer.send()
    peer.read()
    assert StreamReset(first, ResetCode.REFUSED, True) in peer.events
    assert not relay.closed


def answer_with(data: bytes, *, end: bool = False) -> tuple[RecordingSink, RawPeer, RecordingRelay]:
    """What comes of a device that answers an open with `data`."""
    peer, relay = relay_and_raw_device()
    say(peer, HELLO)
    sink = RecordingSink()
    relay.tunnel.open_service("web", sink, timeout=5.0, on_result=sink.got_result)  # type: ignore[arg-type]
    peer.read()
    opened = [event for event in peer.events if isinstance(event, StreamOpened)]
    if data:
        peer.session.send_data(opened[-1].stream_id, data)
    if end:
        peer.session.end_stream(opened[-1].stream_id)
    peer.send()
    return sink, peer, relay


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", encode(HELLO), b"\x00\x01\x00\x00", b"HTTP/1.1 200 OK\r\n"]
)
def test_an_answer_that_is_none_costs_the_stream_only(data: bytes) -> None:
    sink, peer, relay = answer_with(data)
    assert isinstance(sink.result, StreamLostError)
    assert sink.result.reset_code is ResetCode.PROTOCOL
    assert any(isinstance(event, StreamReset) and event.code == ResetCode.PROTOCOL for event in peer.events)
    assert not relay.closed
    assert sink.lost == []


@pytest.mark.parametrize("part", [0, 3, 10])
def test_an_answer_that_ends_early_costs_the_stream_only(part: int) -> None:
    sink, _, relay = answer_with(encode(StreamAnswer(ok=True))[:part], end=True)
    assert isinstance(sink.result, StreamLostError)
    assert not relay.closed


def test_an_answer_in_pieces() -> None:
    whole = encode(StreamAnswer(ok=True)) + b"hello"
    sink, peer, _ = answer_with(whole[:1])
    for i in range(1, len(whole)):
        assert sink.result is None or i >= len(whole) - 5
        peer.session.send_data(2, whole[i : i + 1])
        peer.send()
    assert sink.received == b"hello"


def test_a_refusal_without_a_code_is_a_failure() -> None:
    sink, _, _ = answer_with(encode(StreamAnswer(ok=False)))
    assert isinstance(sink.result, OpenRefusedError)
    assert sink.result.reason == OpenRefusal.FAILED


def test_a_stream_opened_by_the_peer_but_never_asked_for_anything_is_bounded() -> None:
    peer, _, device = device_and_raw_relay()
    stream_id = peer.session.open_stream(peer.clock())
    peer.session.send_data(stream_id, (8 * 1024).to_bytes(4, "big") + bytes(8 * 1024 - 1))
    peer.send()
    assert device.requests == []
    peer.session.send_data(stream_id, b"x")
    peer.send()
    peer.read()
    assert StreamReset(stream_id, ResetCode.PROTOCOL, True) in peer.events
    assert not device.closed


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", encode(StreamAnswer(ok=True)), b"\x00\x00\x00\x01\x01"])
def test_a_request_that_is_none_costs_the_stream_only(data: bytes) -> None:
    peer, _, device = device_and_raw_relay()
    stream_id = peer.session.open_stream(peer.clock())
    peer.session.send_data(stream_id, data)
    peer.send()
    peer.read()
    assert StreamReset(stream_id, ResetCode.PROTOCOL, True) in peer.events
    assert device.requests == []
    assert not device.closed


def test_a_request_that_is_cut_off_costs_the_stream_only() -> None:
    peer, _, device = device_and_raw_relay()
    stream_id = peer.session.open_stream(peer.clock())
    peer.session.send_data(stream_id, encode(StreamOpen(service="web"))[:-1])
    peer.session.end_stream(stream_id)
    peer.send()
    peer.read()
    assert StreamReset(stream_id, ResetCode.PROTOCOL, True) in peer.events
    assert device.requests == []


@pytest.mark.parametrize(
    "messages",
    [
        [RELAY_HELLO],  # a second one
        [Stats()],
        [ServicesChanged(services=[])],
        [b"\xff\xff\xff\xff"],
        [RelayHello(software="x", session_id="s", epoch=1, min_version=9, version=9)],
    ],
)
def test_what_a_relay_may_not_say(messages: list[Message | bytes]) -> None:
    peer, _, device = device_and_raw_relay()
    for message in messages:
        peer.session.send_data(1, message if isinstance(message, bytes) else encode(message))
    peer.send()
    assert device.closed[0].reason == CloseReason.PROTOCOL_ERROR


def test_the_device_says_hello_first_on_the_first_stream() -> None:
    peer, _, device = device_and_raw_relay()
    assert peer.events[0] == StreamOpened(1)
    data = [event for event in peer.events if isinstance(event, DataReceived)]
    assert bytes(data[0].data) == encode(HELLO)
    assert device.hello == RELAY_HELLO


def test_an_optional_message_that_is_not_known_is_skipped() -> None:
    peer, relay = relay_and_raw_device()
    body = msgpack.packb({"type": "weather", "optional": True})
    say(peer, HELLO, len(body).to_bytes(4, "big") + body, Stats(uptime=1.0))
    assert len(relay.stats) == 1
    assert not relay.closed
