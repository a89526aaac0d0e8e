"""The same scenarios over every pairing of shells: real sockets, TLS, and memory on a jumping clock."""

from __future__ import annotations

import hashlib
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.tunnel.config import TunnelConfig
from common.tunnel.errors import OpenRefusedError, OpenTimeoutError, TunnelDrainingError, TunnelLostError
from common.tunnel.interfaces import PendingStream, Subprotocol
from common.tunnel.stream import ResetCode
from common.wire.messages import Drain, Health, OpenRefusal, Service, Stats
from common.yamux import Config as YamuxConfig
from tests.common.tunnel.fakes import HELLO, RELAY_HELLO, RecordingSink, Source
from tests.common.tunnel.worlds import WORLDS, World

Scenario = Callable[[World], Awaitable[None]]
SCENARIOS: dict[str, tuple[Scenario, dict[str, Any]]] = {}


def scenario(**arguments: Any) -> Callable[[Scenario], Scenario]:
    """Have a scenario run in every world, made with `arguments`."""

    def register(function: Scenario) -> Scenario:
        SCENARIOS[function.__name__] = (function, arguments)
        return function

    return register


def random_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@scenario()
async def both_ends_say_hello(world: World) -> None:
    assert world.relay.hello == HELLO
    assert world.device.hello == RELAY_HELLO
    assert world.relay.tunnel.subprotocol is Subprotocol.HOMEPORT_V1


@scenario()
async def an_echo(world: World) -> None:
    near = await world.open("echo")
    for text in (b"one", b"two", b"three"):
        near.write(text)
        await world.until(lambda: near.received.endswith(text))  # noqa: B023 -- waited for at once
    assert near.received == b"onetwothree"


@scenario(subprotocol=Subprotocol.YAMUX)
async def an_echo_in_raw_yamux(world: World) -> None:
    near = await world.open("ignored")
    near.write(b"hello")
    await world.until(lambda: near.received == b"hello")
    assert near.stream is not None
    near.stream.write_eof()
    await world.until(lambda: near.over)
    assert near.lost == [None]


@scenario()
async def a_download(world: World) -> None:
    world.payload = random_bytes(6_000_000)
    near = await world.open("count")
    await world.until(lambda: near.eof)
    assert hashlib.sha256(near.received).digest() == hashlib.sha256(world.payload).digest()
    assert near.stream is not None
    near.stream.write_eof()
    await world.until(lambda: near.over and world.device.sinks[0].over)
    assert near.lost == world.device.sinks[0].lost == [None]


@scenario()
async def an_upload(world: World) -> None:
    payload = random_bytes(6_000_000)
    source = Source(payload, world.changed)
    await world.open("keep", source)
    source.pump()
    await world.until(lambda: world.device.sinks and world.device.sinks[0].eof)
    assert hashlib.sha256(world.device.sinks[0].received).digest() == hashlib.sha256(payload).digest()


@scenario()
async def an_echo_of_much_both_ways_at_once(world: World) -> None:
    payload = random_bytes(4_000_000)
    source = Source(payload, world.changed)
    await world.open("echo", source)
    source.pump()
    await world.until(lambda: source.over)
    assert source.lost == [None]
    assert source.received == payload


@scenario()
async def many_streams_at_once(world: World) -> None:
    sinks = [world.ask("echo") for _ in range(100)]
    await world.until(lambda: all(sink.stream is not None for sink in sinks))
    for i, sink in enumerate(sinks):
        sink.write(b"%d " % i * 1000)
        assert sink.stream is not None
        sink.stream.write_eof()
    await world.until(lambda: all(sink.over for sink in sinks))
    for i, sink in enumerate(sinks):
        assert sink.received == b"%d " % i * 1000
        assert sink.lost == [None]
    assert world.relay.tunnel.statistics().streams == 0
    assert world.relay.tunnel.statistics().streams_total == 100


@scenario()
async def a_service_that_is_refused(world: World) -> None:
    def refuse(request: PendingStream) -> RecordingSink:
        request.refuse(OpenRefusal.CONNECTION_REFUSED, "port 22: connection refused")
        return RecordingSink()

    world.device.serve["ssh"] = refuse
    near = world.ask("ssh")
    await world.until(lambda: near.result is not None)
    assert isinstance(near.result, OpenRefusedError)
    assert (near.result.reason, near.result.detail) == ("connection_refused", "port 22: connection refused")


@scenario()
async def a_service_that_does_not_answer(world: World) -> None:
    near = world.ask("silent", timeout=0.05)
    await world.until(lambda: near.result is not None)
    assert isinstance(near.result, OpenTimeoutError)
    await world.until(lambda: world.device.requests)


@scenario()
async def an_answer_that_comes_later(world: World) -> None:
    near = world.ask("later")
    await world.until(lambda: world.device.requests)
    await world.on_device(lambda: world.echo(world.device.requests[0]))
    await world.until(lambda: near.stream is not None)
    near.write(b"at last")
    await world.until(lambda: near.received == b"at last")


@scenario()
async def half_close_by_the_relay(world: World) -> None:
    near = await world.open("keep")
    assert near.stream is not None
    near.stream.write_eof()
    await world.until(lambda: world.device.sinks[0].eof)
    far = world.device.sinks[0]
    await world.on_device(lambda: far.write(b"still talking"))
    await world.until(lambda: near.received == b"still talking")
    assert not near.over
    assert far.stream is not None
    await world.on_device(far.stream.write_eof)
    await world.until(lambda: near.over and far.over)
    assert near.lost == far.lost == [None]


@scenario()
async def half_close_by_the_device(world: World) -> None:
    world.payload = b"all there is"
    near = await world.open("count")
    await world.until(lambda: near.eof)
    near.write(b"thanks")
    await world.until(lambda: world.device.sinks[0].received == b"thanks")
    assert not near.over


@scenario()
async def reset_by_the_relay(world: World) -> None:
    near = await world.open("keep")
    assert near.stream is not None
    near.stream.reset(ResetCode.TIMEOUT)
    assert not near.over
    await world.until(lambda: near.over and world.device.sinks[0].over)
    assert near.reset_code is world.device.sinks[0].reset_code is ResetCode.TIMEOUT


@scenario()
async def reset_by_the_device_in_the_middle_of_much(world: World) -> None:
    world.payload = random_bytes(20_000_000)
    near = await world.open("count", world.sink(limit=1_000_000))
    await world.until(lambda: len(near.received) >= 1_000_000)
    far = world.device.sinks[0]
    assert far.stream is not None
    await world.on_device(lambda: far.stream.reset(ResetCode.INTERNAL))  # type: ignore[union-attr]
    await world.until(lambda: near.over and far.over)
    assert near.reset_code is far.reset_code is ResetCode.INTERNAL
    other = await world.open("echo")
    other.write(b"fine")
    await world.until(lambda: other.received == b"fine")


@scenario()
async def a_reader_that_stops_slows_no_other(world: World) -> None:
    world.payload = random_bytes(20_000_000)
    stalled = await world.open("count", world.sink(limit=1))
    await world.until(lambda: world.device.sinks[0].writing_paused and stalled.received)
    world.payload = random_bytes(3_000_000)
    other = await world.open("count")
    await world.until(lambda: other.eof)
    assert other.received == world.payload
    assert len(stalled.received) <= YamuxConfig().max_window
    assert not stalled.eof
    stalled.limit = None
    assert stalled.stream is not None
    stalled.stream.resume_reading()
    await world.until(lambda: stalled.eof)
    assert len(stalled.received) == 20_000_000


@scenario()
async def a_device_that_stops_reading_slows_no_other(world: World) -> None:
    source = Source(random_bytes(20_000_000), world.changed)
    await world.open("keep", source)
    stalled = world.device.sinks[0]
    assert stalled.stream is not None
    await world.on_device(stalled.stream.pause_reading)
    source.pump()
    await world.until(lambda: source.writing_paused and stalled.received)
    other = await world.open("echo")
    for i in range(20):
        other.write(b"ping")
        await world.until(lambda: len(other.received) == 4 * (i + 1))  # noqa: B023 -- waited for at once
    assert len(stalled.received) <= YamuxConfig().max_window
    await world.on_device(stalled.stream.resume_reading)
    await world.until(lambda: stalled.eof)
    assert len(stalled.received) == 20_000_000


@scenario()
async def services_and_stats(world: World) -> None:
    services = [Service(name="web", health=Health.HEALTHY), Service(name="ssh", kind="tcp")]
    await world.on_device(lambda: world.device.tunnel.update_services(services))
    await world.on_device(lambda: world.device.tunnel.send_stats(Stats(uptime=3.0)))
    await world.until(lambda: world.relay.stats)
    assert world.relay.services == [services]
    assert world.relay.stats == [Stats(uptime=3.0)]


@scenario()
async def the_relay_drains(world: World) -> None:
    near = await world.open("echo")
    world.relay.tunnel.drain(reconnect_after=4.5)
    await world.until(lambda: world.device.drains)
    assert world.device.drains == [Drain(reconnect_after=4.5)]
    refused = world.ask("echo")
    await world.until(lambda: refused.result is not None)
    assert isinstance(refused.result, TunnelDrainingError)
    near.write(b"let me finish")
    await world.until(lambda: near.received == b"let me finish")
    assert not world.relay.drained
    assert near.stream is not None
    near.stream.write_eof()
    await world.until(lambda: world.relay.drained)
    world.relay.tunnel.close("draining")
    await world.until(lambda: world.device.closed)
    assert (world.device.closed[0].reason, world.device.closed[0].by_peer) == ("draining", True)


@scenario(subprotocol=Subprotocol.YAMUX)
async def the_device_drains_in_raw_yamux(world: World) -> None:
    near = await world.open("")
    await world.on_device(world.device.tunnel.drain)
    await world.until(lambda: world.relay.drains)
    refused = world.ask("")
    await world.until(lambda: refused.result is not None)
    assert isinstance(refused.result, TunnelDrainingError)
    assert near.stream is not None
    near.stream.write_eof()
    await world.until(lambda: world.device.drained)


@scenario()
async def the_relay_closes(world: World) -> None:
    near = await world.open("keep")
    waiting = world.ask("silent")
    world.relay.tunnel.close("revoked")
    await world.until(lambda: world.relay.closed and world.device.closed and world.device.sinks[0].over)
    assert near.reset_code is world.device.sinks[0].reset_code is ResetCode.SESSION_LOST
    assert isinstance(waiting.result, TunnelLostError)
    assert (world.relay.closed[0].reason, world.relay.closed[0].by_peer) == ("revoked", False)
    assert (world.device.closed[0].reason, world.device.closed[0].by_peer) == ("revoked", True)


@scenario()
async def the_device_closes(world: World) -> None:
    near = await world.open("keep")
    await world.on_device(world.device.tunnel.close)
    await world.until(lambda: world.relay.closed and world.device.closed)
    assert near.reset_code is ResetCode.SESSION_LOST
    assert (world.relay.closed[0].reason, world.relay.closed[0].by_peer) == ("closed", True)


@scenario()
async def a_close_in_the_middle_of_much(world: World) -> None:
    """The last words come through although the connection was full."""
    world.payload = random_bytes(20_000_000)
    near = await world.open("count", world.sink(limit=1))
    source = Source(random_bytes(20_000_000), world.changed)
    await world.open("keep", source)
    source.pump()
    await world.until(lambda: near.received)
    world.relay.tunnel.close("replaced")
    await world.until(lambda: world.device.closed)
    assert (world.device.closed[0].reason, world.device.closed[0].by_peer) == ("replaced", True)
    assert source.reset_code is ResetCode.SESSION_LOST


@scenario()
async def the_connection_breaks(world: World) -> None:
    near = await world.open("keep")
    waiting = world.ask("silent")
    world.cut()
    await world.until(lambda: world.relay.closed and world.device.closed)
    await world.until(lambda: near.over and world.device.sinks[0].over)
    assert near.reset_code is world.device.sinks[0].reset_code is ResetCode.SESSION_LOST
    assert world.relay.closed[0].reason == world.device.closed[0].reason == "network"
    assert isinstance(waiting.result, TunnelLostError)


@scenario(relay_config=TunnelConfig(stream_idle_timeout=0.05))
async def an_idle_stream_is_reset(world: World) -> None:
    near = await world.open("keep")
    await world.until(lambda: near.over and world.device.sinks[0].over)
    assert near.reset_code is world.device.sinks[0].reset_code is ResetCode.TIMEOUT
    assert not world.relay.closed


@scenario(relay_config=TunnelConfig(yamux=YamuxConfig(probe_interval=0.05, dead_after=30.0)))
async def probes_measure_the_round_trip(world: World) -> None:
    near = await world.open("echo")
    near.write(b"x")
    await world.until(lambda: near.received)
    # A probe and its answer wake nobody; the streams that are opened meanwhile do.
    while world.relay.tunnel.statistics().rtt is None:
        other = world.ask("silent", timeout=0.02)
        await world.until(lambda: other.result is not None)  # noqa: B023 -- waited for at once


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, world: str, certificates: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    function, arguments = SCENARIOS[name]
    WORLDS[world](**arguments, certificates=certificates if world.endswith("tls") else None).run(function)
