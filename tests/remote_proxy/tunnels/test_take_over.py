"""A newer tunnel of a device takes the place of the older one: at once, in the right order, and the old streams end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from common.ids import ServiceName
from common.sessions.errors import SessionStoreError
from common.tunnel.dial import Dial, DialSource
from common.tunnel.errors import HandshakeRefusedError
from common.tunnel.stream import Stream
from remote_proxy.tunnels.session import LiveTunnel
from tests.contract.devices import Device, echo
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.contract.sinks import RecordingSink
from tests.remote_proxy.wire import connect

pytestmark = pytest.mark.anyio

DIALS = DialSource()


async def dial(relay: RunningRelay, number: Dial | None, device: Device | None = None) -> Device:
    device = device or Device({"echo": echo})
    await device.dial(relay.tunnel_url, relay.token(), dial=number)
    relay.devices.append(device)
    return device


def handshake(relay: RunningRelay, more: str = "") -> bytes:
    """That of a device without our agent."""
    return (
        "GET /tunnel HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: yamux\r\nAuthorization: Bearer {relay.token().reveal()}\r\n{more}\r\n"
    ).encode()


def current(relay: RunningRelay) -> LiveTunnel:
    return relay.store.lookup_device_nowait(relay.team, "cam")


async def open_echo(tunnel: LiveTunnel) -> tuple[Stream, RecordingSink]:
    sink = RecordingSink()
    return await tunnel.open_stream(ServiceName("echo"), sink), sink


async def test_a_dial_that_the_network_brought_late_is_refused(relay: RunningRelay) -> None:
    late, newer = DIALS.next(), DIALS.next()
    device = await dial(relay, newer)
    session = current(relay)
    with pytest.raises(HandshakeRefusedError) as caught:
        await dial(relay, late)
    assert (caught.value.http_status, caught.value.reason, caught.value.final) == (409, "replaced", False)
    assert current(relay) is session
    assert device.lost is None
    assert relay.metric("handshakes_total", outcome="replaced") == 1


@pytest.mark.parametrize("second", ["later", "the same", "another run", "unsaid"])
async def test_any_other_dial_takes_over(relay: RunningRelay, second: str) -> None:
    first = DIALS.next()
    number = {"later": DIALS.next(), "the same": first, "another run": DialSource().next(), "unsaid": None}[second]
    older = await dial(relay, first)
    session = current(relay)
    await dial(relay, number)
    assert current(relay).epoch > session.epoch
    assert await older.wait_lost() == "replaced"


async def test_late_dials_of_an_agent_that_has_no_session_are_let_in(relay: RunningRelay) -> None:
    """The relay remembers nothing of sessions that are over: nobody is there to be replaced."""
    late, newer = DIALS.next(), DIALS.next()
    device = await dial(relay, newer)
    device.close()
    await relay.until(lambda: len(relay.store) == 0)
    await dial(relay, late)
    await dial(relay, newer)


async def test_a_number_that_is_none_is_said(relay: RunningRelay) -> None:
    async with connect(relay.tunnel_url) as client:
        client.send(handshake(relay, "Homeport-Dial: seven\r\n"))
        answer = await client.read_answer()
        assert (answer.status, answer.code) == (400, "invalid_handshake")
        assert "Homeport-Dial" in answer.problem["detail"]


async def test_streams_of_a_device_that_still_answers_end_whole(tmp_path: Path) -> None:
    async with running_relay(tmp_path, probe_interval=2.0, dead_after=30.0) as relay:
        older = await dial(relay, None)
        old_session = current(relay)
        stream, sink = await open_echo(old_session)
        newer = await dial(relay, None)
        assert (await older.wait_drain()).reason == "replaced"
        assert current(relay) is not old_session
        with pytest.raises(SessionStoreError):
            await open_echo(old_session)
        # Longer than it has to give a sign of life: the answer to the relay's question is one.
        began = old_session.describe().last_heartbeat
        await relay.until(lambda: old_session.describe().last_heartbeat > began + 1.0)
        stream.write(b"still here")
        await sink.wait_received(b"still here")
        stream.write_eof()
        assert await older.wait_lost() == "replaced"
        assert newer.lost is None
        await relay.until(lambda: relay.metric("tunnels") == 1)


async def test_streams_of_a_device_that_lost_power_are_reset_soon(tmp_path: Path) -> None:
    async with (
        running_relay(tmp_path, probe_interval=0.5, dead_after=3600.0) as relay,
        connect(relay.tunnel_url) as silent,
    ):
        silent.send(handshake(relay))
        assert (await silent.read_answer()).status == 101
        sink = RecordingSink()
        await current(relay).open_stream(ServiceName("web"), sink)
        await dial(relay, None)
        assert await sink.wait_lost() is not None


async def test_the_grace_ends_what_does_not_end_by_itself(tmp_path: Path) -> None:
    async with running_relay(tmp_path, drain_grace=0.2) as relay:
        older = await dial(relay, None)
        _, sink = await open_echo(current(relay))
        await dial(relay, None)
        assert await older.wait_lost() == "replaced"
        assert await sink.wait_lost() is not None


async def test_one_session_of_a_device_retires_at_a_time(relay: RunningRelay) -> None:
    first = await dial(relay, None)
    await open_echo(current(relay))
    second = await dial(relay, None)
    stream, sink = await open_echo(current(relay))
    await dial(relay, None)
    assert await first.wait_lost() == "replaced"
    assert second.lost is None
    stream.write(b"still here")
    await sink.wait_received(b"still here")


async def test_a_revocation_ends_one_that_retires(relay: RunningRelay) -> None:
    older = await dial(relay, None)
    await open_echo(current(relay))
    await dial(relay, None)
    await older.wait_drain()
    async with relay.control() as control, asyncio.timeout(30):
        item = {"kind": "device", "team": relay.team, "expires_at": relay.now + 60}
        (await control.put("/internal/revocations/cam", json=item)).raise_for_status()
    assert await older.wait_lost() == "revoked"
