"""A relay for a simulation: the parts of `remote_proxy` that know no loop, over the tunnel's trio shell.

Gate, sessions, store and revocations are the relay's own. What `remote_proxy.relay` adds are listeners, timers and
tasks, and those are asyncio's; here they are a few lines on trio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import trio

from common.ids import DeviceId
from common.sessions.errors import DeviceOfflineError
from common.sessions.interfaces import Summary
from common.tunnel.config import TunnelConfig
from common.tunnel.on_trio import serve_tunnel
from common.tunnel.on_trio.tls import TLSTransport
from common.tunnel.on_trio.transport import Transport
from remote_proxy.revocations import RevocationKey, Revocations
from remote_proxy.store import InMemoryStore
from remote_proxy.tunnels.admission import AdmissionLimits, Gate
from remote_proxy.tunnels.live import LiveTunnels
from remote_proxy.tunnels.session import LiveTunnel, TunnelContext
from remote_proxy.tunnels.traffic import Traffic
from tests.simulation.budget import CountingBudget
from tests.simulation.installation import EPOCH, TEAM, Installation
from tests.simulation.network import End
from tests.simulation.trace import Trace, TraceLogger

__all__ = ["PROBE_INTERVAL", "SimulatedRelay", "TrioClock"]

PROBE_INTERVAL = 5.0


class TrioClock:
    """Implements `common.clock.Clock`."""

    def monotonic(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return EPOCH + trio.current_time()


class SimulatedRelay:
    """One relay process.

    Args:
        name: for the trace.
        installation: its keys.
        trace: of the run.
        secure: names of the sites that dial with TLS.
        budget: bytes that its receive windows may grow by.
        revoked: what was revoked before it started.
        seen: what was reached.
    """

    def __init__(
        self,
        name: str,
        installation: Installation,
        trace: Trace,
        *,
        secure: frozenset[str],
        budget: int,
        revoked: Iterable[RevocationKey],
        seen: Counter[str],
    ) -> None:
        self.name = name
        self.budget = CountingBudget(budget, seen)
        self.revocations = Revocations()
        for key in revoked:
            self.revoke(key)
        self.live: LiveTunnels[LiveTunnel] = LiveTunnels()
        self.store: InMemoryStore[LiveTunnel] = InMemoryStore(clock=TrioClock(), expires_after=30.0, observer=self)
        self.false_deaths: list[str] = []
        self._trace = trace
        self._seen = seen
        self._secure = secure
        self._installation = installation
        self._ends: dict[str, End] = {}
        self._nursery: trio.Nursery | None = None
        self._config = TunnelConfig(stream_idle_timeout=3600.0)
        self.gate = Gate(
            TunnelContext(
                clock=TrioClock(),
                store=self.store,
                revocations=self.revocations,
                traffic=Traffic(),
                live=self.live,
                log=TraceLogger(trace, name).as_logger(),
                relay_name=lambda: name,
                software="homeport-relay/simulated",
                probe_interval=PROBE_INTERVAL,
                dead_after=self._config.yamux.dead_after,
                max_streams=1024,
                opens_per_second=2000.0,
            ),
            installation.verifier,
            AdmissionLimits(max_tunnels=100, handshakes_per_second=1000.0, handshakes_burst=1000.0),
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until killed."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._reap)
            task_status.started()

    def kill(self) -> None:
        """As SIGKILL does: the kernel closes the connections."""
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    def lose_power(self) -> None:
        """Nobody is told anything."""
        for end in self._ends.values():
            end.gone = True
        self.kill()

    def revoke(self, key: RevocationKey) -> None:
        """As `PUT /internal/revocations` does it."""
        self.revocations.revoke(key, EPOCH + 1_000_000)

    def accept(self, end: End, address: str) -> None:
        """Serve a connection."""
        assert self._nursery is not None
        self._nursery.start_soon(self._serve, end, address)

    async def drain(self, grace: float) -> None:
        """As `remote_proxy.drain` does it; then the process ends."""
        self.gate.close(grace)
        tunnels = sorted(self.live, key=lambda tunnel: tunnel.epoch)
        for number, tunnel in enumerate(tunnels):
            tunnel.drain(grace * number / len(tunnels))
        with trio.move_on_after(grace):
            await self._wait_empty()
        for tunnel in sorted(self.live, key=lambda tunnel: tunnel.epoch):
            tunnel.close("draining")
        with trio.move_on_after(1.0):
            await self._wait_empty()
        self.kill()

    def find(self, device: DeviceId) -> LiveTunnel | None:
        """The device's session."""
        try:
            return self.store.lookup_device_nowait(TEAM, device)
        except DeviceOfflineError:
            return None

    async def _serve(self, end: End, address: str) -> None:
        self._ends[address] = end
        transport: Transport = end
        try:
            if address.partition("#")[0] in self._secure:
                transport = tls = TLSTransport(end, self._installation.server_context, server_side=True)
                with trio.move_on_after(10.0) as in_time:
                    await tls.handshake()
                if in_time.cancelled_caught:
                    return
            await serve_tunnel(
                transport, self.gate.admit, config=self._config, budget=self.budget, remote_address=address
            )
        except OSError as exc:
            self._trace.add(self.name, "no TLS", address=address, error=type(exc).__name__)
        finally:
            await transport.aclose()
            del self._ends[address]

    async def _reap(self) -> None:
        while True:
            await trio.sleep(PROBE_INTERVAL)
            self.store.cleanup_expired_nowait()
            for _ in self.store.refresh():
                await trio.lowlevel.checkpoint()

    async def _wait_empty(self) -> None:
        while len(self.live):
            await trio.sleep(0.25)

    # StoreObserver

    def session_online(self, session: Summary) -> None:
        self._trace.add(self.name, "online", address=session.remote_address)

    def session_offline(self, session: Summary, reason: str) -> None:
        self._trace.add(self.name, "offline", address=session.remote_address, reason=reason)
        self._seen[f"offline {reason}"] += 1
        end: Any = self._ends.get(session.remote_address)
        if reason == "dead" and end is not None:
            silence = trio.current_time() - end.last_arrival
            # With TLS, the beginning of a record is no sign of life for the tunnel.
            allowance = 1.0 if session.remote_address.partition("#")[0] in self._secure else 0.01
            if silence < self._config.yamux.dead_after - allowance:
                self.false_deaths.append(f"{session.remote_address} was declared dead after {silence:.1f} s of silence")

    def session_updated(self, session: Summary) -> None:
        self._trace.add(self.name, "updated", address=session.remote_address, services=dict(session.services))
