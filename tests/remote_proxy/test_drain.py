"""The orderly end: real devices, real streams. Nothing here waits for a grace to pass but the tests about that."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from common.tunnel.errors import HandshakeRefusedError
from common.tunnel.interfaces import Subprotocol
from tests.contract.devices import Device, keep
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.remote_proxy.wire import connect, open_stream, stream_head

pytestmark = pytest.mark.anyio

BOTH_SUBPROTOCOLS = pytest.mark.parametrize("subprotocol", list(Subprotocol))


async def begin(relay: RunningRelay, device: Device) -> asyncio.Future[bool]:
    """Begin a drain; returns it once the device has been told."""
    draining = asyncio.ensure_future(relay.relay.drain())
    await device.wait_drain()
    return draining


async def test_without_tunnels_it_is_over_at_once(relay: RunningRelay) -> None:
    async with asyncio.timeout(10):
        assert await relay.relay.drain()


@BOTH_SUBPROTOCOLS
async def test_idle_tunnels_are_closed_and_told_so(relay: RunningRelay, subprotocol: Subprotocol) -> None:
    devices = [await relay.attach(f"cam{number}", subprotocol=subprotocol) for number in range(3)]
    async with asyncio.timeout(10):
        assert await relay.relay.drain()
    assert [await device.wait_lost() for device in devices] == ["draining"] * 3
    assert len(relay.store) == 0


@pytest.mark.parametrize(("grace", "rate"), [(100, 0.01), (3600, 0.1)])
async def test_devices_are_asked_back_one_by_one_as_fast_as_they_are_taken(
    tmp_path: Path, grace: float, rate: float
) -> None:
    async with running_relay(tmp_path, drain_grace=grace, handshakes_per_second=rate) as relay:
        devices = [await relay.attach(f"cam{number}") for number in range(10)]
        assert await relay.relay.drain()
        moments = sorted([(await device.wait_drain()).reconnect_after for device in devices])
        assert moments == pytest.approx([10.0 * number for number in range(10)])


@BOTH_SUBPROTOCOLS
async def test_a_stream_goes_on_to_its_end_and_then_the_drain_is_over(
    relay: RunningRelay, subprotocol: Subprotocol
) -> None:
    kept = keep()
    device = await relay.attach("cam", services={"keep": kept}, subprotocol=subprotocol)
    async with open_stream(relay, "keep") as client:
        stream, sink = await kept.next()
        draining = await begin(relay, device)
        client.send(b"question")
        client.end()
        assert await sink.wait_eof() == b"question"
        assert not draining.done()
        stream.write(b"answer")
        stream.write_eof()
        assert await client.read_end() == b"answer"
        assert await draining
    assert await device.wait_lost() in ("draining", "closed")


async def test_meanwhile_nobody_is_admitted_and_nothing_is_opened(relay: RunningRelay) -> None:
    kept = keep()
    device = await relay.attach("cam", services={"keep": kept})
    async with open_stream(relay, "keep") as open_before:
        stream, _ = await kept.next()
        draining = await begin(relay, device)
        with pytest.raises(HandshakeRefusedError) as caught:
            await Device().dial(relay.tunnel_url, relay.token("door"))
        assert (caught.value.http_status, caught.value.reason) == (503, "draining")
        assert caught.value.retry_after == 5, "the drain may be over long before its grace is"
        for url in (relay.tunnel_url, relay.internal_url):
            async with connect(url) as client:
                client.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = await client.read_answer()
                assert (answer.status, answer.body) == (503, b"draining\n")
            async with connect(url) as client:
                client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert (await client.read_answer()).status == 200
        async with connect(relay.internal_url) as client:
            client.send(stream_head(relay, {"Homeport-Service": "keep"}))
            answer = await client.read_answer()
            assert (answer.status, answer.code) == (503, "draining")
            assert answer.headers["retry-after"] == "1"
        assert relay.metric("draining") == 1
        assert relay.store.lookup_device_nowait(relay.team, "cam").describe().state == "draining"
        stream.reset()
        with pytest.raises(ConnectionResetError):
            await open_before.read_end()
    assert await draining


async def test_when_the_grace_is_over_what_is_left_is_reset(tmp_path: Path) -> None:
    async with running_relay(tmp_path, drain_grace=0.05) as relay:
        kept = keep()
        device = await relay.attach("cam", services={"keep": kept})
        async with open_stream(relay, "keep") as client:
            _, sink = await kept.next()
            assert not await relay.relay.drain()
            with pytest.raises(ConnectionResetError):
                await client.read_end()
            assert await sink.wait_lost() is not None
        assert await device.wait_lost() == "draining"


async def test_who_is_in_a_hurry_ends_the_grace(relay: RunningRelay) -> None:
    kept = keep()
    device = await relay.attach("cam", services={"keep": kept})
    async with open_stream(relay, "keep") as client:
        await kept.next()
        draining = await begin(relay, device)
        relay.relay.hurry()
        async with asyncio.timeout(10):
            assert not await draining
        with pytest.raises(ConnectionResetError):
            await client.read_end()


async def test_an_open_under_way_is_answered(relay: RunningRelay) -> None:
    """The device was asked before the drain began; whatever it says then, the client hears of it."""
    kept = keep()
    device = await relay.attach("cam", services={"late": lambda request: None})
    async with connect(relay.internal_url) as client:
        client.send(stream_head(relay, {"Homeport-Service": "late"}))
        request = await device.wait_request()
        draining = await begin(relay, device)
        kept(request)
        assert (await client.read_answer()).status == 101
        stream, _ = await kept.next()
        client.end()
        stream.write_eof()
        assert await client.read_end() == b""
        assert await draining


async def test_a_relay_that_waits_for_the_ports_takes_over(tmp_path: Path) -> None:
    """Streams of the old relay go on, devices are asked to come at once, and readers of events go to the new one."""
    async with running_relay(tmp_path, handover_timeout=60, drain_grace=3600) as old:
        ports = {"tunnel_port": urlsplit(old.tunnel_url).port, "internal_port": urlsplit(old.internal_url).port}
        kept = keep()
        device = await old.attach("cam", services={"keep": kept})
        async with open_stream(old, "keep") as client, old.control() as control:
            stream, _ = await kept.next()
            async with asyncio.TaskGroup() as group:
                waiting = running_relay(tmp_path, handover_timeout=60, **ports)
                entered = group.create_task(waiting.__aenter__())
                listing = await control.get("/internal/sessions", params={"team": old.team})
                assert len(listing.json()["items"]) == 1
                assert not entered.done()
                async with control.stream("GET", "/internal/events") as events:
                    draining = group.create_task(old.relay.drain())
                    new = await entered
                    try:
                        assert (new.tunnel_url, new.internal_url) == (old.tunnel_url, old.internal_url)
                        assert (await device.wait_drain()).reconnect_after == 0
                        async for text in events.aiter_text():
                            last = text
                        assert '"state":"draining"' in last, "who waits for the device hears why it goes"
                        again = Device({"keep": keep()})
                        await again.dial(new.tunnel_url, old.token("cam"))
                        assert len(new.store) == 1
                        client.send(b"still here")
                        stream.write(b"so am I")
                        assert await client.read(7) == b"so am I"
                        stream.reset()
                        assert await draining
                        again.close()
                    finally:
                        await waiting.__aexit__(None, None, None)


async def test_ports_that_nobody_gives_up_are_waited_for_in_vain(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with running_relay(tmp_path, handover_timeout=0.1, tunnel_port=taken.getsockname()[1]):
            pass
