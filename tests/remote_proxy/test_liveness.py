"""How the relay notices silence: tiny intervals, and waits for what follows from them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from common.ids import TeamId
from common.logging import get_logger
from common.sessions.interfaces import SessionState
from remote_proxy.events import EventKind, SessionEvent
from remote_proxy.reaper import Reaper
from remote_proxy.revocations import RevocationKey, RevocationKind, Revocations
from remote_proxy.store import InMemoryStore
from remote_proxy.tunnels.session import LiveTunnel
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.remote_proxy.fakes import HOME, FakeClock, FakeTunnel, Recorder
from tests.remote_proxy.wire import connect

pytestmark = pytest.mark.anyio


async def wait_event(relay: RunningRelay, kind: EventKind, *, state: SessionState) -> SessionEvent:
    """The first event of that kind and state, from the beginning."""
    events = relay.relay.events
    happened = asyncio.Event()
    unlisten = events.listen(happened.set)
    try:
        async with asyncio.timeout(30):
            while True:
                for event in events.after(0, limit=events.last):
                    if event.type is kind and event.session.state is state:
                        return event
                await happened.wait()
                happened.clear()
    finally:
        unlisten()


def silent_handshake(relay: RunningRelay) -> bytes:
    """A device that does its handshake, and nothing else."""
    return (
        "GET /tunnel HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: yamux\r\nAuthorization: Bearer {relay.token().reveal()}\r\n\r\n"
    ).encode()


async def test_a_device_that_falls_silent_is_degraded_and_then_dead(tmp_path: Path) -> None:
    async with running_relay(tmp_path, probe_interval=0.05, dead_after=0.5) as relay:
        async with connect(relay.tunnel_url) as client:
            client.send(silent_handshake(relay))
            assert (await client.read_answer()).status == 101
            degraded = await wait_event(relay, EventKind.UPDATED, state=SessionState.DEGRADED)
            assert degraded.session.last_heartbeat >= degraded.session.connected_at
            dead = await wait_event(relay, EventKind.OFFLINE, state=SessionState.DRAINING)
            assert dead.reason == "dead"
        assert relay.metric("tunnels_closed_total", reason="dead") == 1


async def test_a_device_that_answers_probes_stays_healthy(tmp_path: Path) -> None:
    async with running_relay(tmp_path, probe_interval=0.2, dead_after=0.5) as relay:
        device = await relay.attach("cam")
        session = relay.store.lookup_device_nowait(relay.team, "cam")
        began = session.describe()
        # Longer than it may be silent.
        await relay.until(lambda: session.describe().last_heartbeat > began.connected_at + 0.6)
        now = session.describe()
        assert now.state is SessionState.HEALTHY
        assert now.rtt_ms is not None
        assert device.lost is None


async def test_a_sweep_ends_what_outlived_its_tunnel_and_tells_what_changed() -> None:
    clock, recorder, revocations = FakeClock(), Recorder(), Revocations()
    store: InMemoryStore[FakeTunnel] = InMemoryStore(clock=clock, expires_after=30.0, observer=recorder)
    stuck, degraded, fine = FakeTunnel("cam", 1), FakeTunnel("door", 2), FakeTunnel("porch", 3)
    for tunnel in (stuck, degraded, fine):
        store.register_nowait(tunnel)
    revocations.revoke(RevocationKey(RevocationKind.DEVICE, HOME, "lost"), clock.wall() + 10)
    revocations.revoke(RevocationKey(RevocationKind.DEVICE, TeamId("other"), "lost"), clock.wall() + 100)
    reaper = Reaper(
        cast(InMemoryStore[LiveTunnel], store), revocations, clock=clock, interval=3600, log=get_logger("test")
    )
    clock.advance(31.0)
    stuck.silent_for = 31.0
    degraded.state = SessionState.DEGRADED
    recorder.heard.clear()
    await reaper.sweep()
    assert stuck.closed == ["dead"]
    assert recorder.heard == [("offline", stuck.session_id, "dead"), ("updated", degraded.session_id, None)]
    assert len(revocations) == 1
