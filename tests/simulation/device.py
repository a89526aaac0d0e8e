"""A device: a machine that may lose its power, the agent on it as `homeport agent` puts it together, its services."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import trio

from common.ids import DeviceId
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.on_trio.transport import Transport
from common.wire import messages
from common.yamux import Config, MemoryBudget
from edge_agent.agent import Agent, AgentState
from edge_agent.dialer import TunnelDialer
from edge_agent.health import HealthMonitor
from edge_agent.redial import Redial
from edge_agent.relay_url import RelayUrl
from tests.simulation.budget import CountingBudget
from tests.simulation.installation import HOST, Installation, device_id
from tests.simulation.network import Network, Site
from tests.simulation.services import LocalServices
from tests.simulation.trace import Trace, TraceLogger

__all__ = ["CONNECT_TIMEOUT", "DRAIN_GRACE", "SimulatedDevice"]

CONNECT_TIMEOUT = 10.0
DRAIN_GRACE = 30.0


class SimulatedDevice:
    """See the module.

    Args:
        number: which one.
        site: its place in the network.
        network: to dial over.
        installation: its token.
        trace: of the run.
        secure: whether it dials with TLS.
        retry_maximum: ceiling of its back-off, seconds.
        max_streams: of its agent.
        budget: bytes that its receive windows may grow by.
        seed: of its jitter.
        nursery: where it runs.
        seen: what was reached.
    """

    def __init__(
        self,
        number: int,
        site: Site,
        network: Network,
        installation: Installation,
        trace: Trace,
        *,
        nursery: trio.Nursery,
        seen: Counter[str],
        budget: int,
        secure: bool,
        retry_maximum: float,
        max_streams: int,
        seed: str,
    ) -> None:
        self.id: DeviceId = device_id(number)
        self.name = site.name
        self.site = site
        self.secure = secure
        self.retry_maximum = retry_maximum
        self.agent: Agent | None = None
        """None while there is no power."""
        self.powered = True
        self.credential = 0
        """Which of its credentials it has."""
        self.revoked = False
        """That one was revoked."""
        self.exit_code: int | None = None
        self.failures: list[str] = []
        self.left_over: list[str] = []
        """What an agent that stopped in order had not given back."""
        self._installation = installation
        self._network = network
        self._trace = trace
        self._nursery = nursery
        self._seen = seen
        self._budget = budget
        self.number = number
        self._max_streams = max_streams
        self._rng = random.Random(seed)
        self._machine = trio.CancelScope()
        self._off = trio.Event()
        self._off.set()

    def start(self) -> None:
        """Start the agent, unless it runs, or there is no power."""
        if self.powered and self._off.is_set():
            self._off = trio.Event()
            self._nursery.start_soon(self._run)

    def renew(self) -> None:
        """Give it its next credential; an agent that runs has to be started anew."""
        self.credential += 1
        self.revoked = False

    async def _run(self) -> None:
        """Run until the agent ends, or the power does."""
        self.exit_code = None
        budget = CountingBudget(self._budget, self._seen)
        try:
            with trio.CancelScope() as self._machine:
                async with trio.open_nursery() as nursery:
                    services = LocalServices(nursery)
                    self.agent = self._make_agent(services, budget)
                    self.exit_code = await self.agent.run()
                    self._check(services, budget)
                    nursery.cancel_scope.cancel()
        finally:
            self._trace.add(self.name, "off", exit_code=self.exit_code)
            self.agent = None
            self._off.set()

    async def lose_power(self) -> None:
        """Everything on the device is gone at once, and nobody is told; it can be started when `powered` is set."""
        self.powered = False
        for connection in self.site.connections:
            connection.lose_device()
        self._machine.cancel()
        await self._off.wait()

    async def stop(self) -> None:
        """Stop the agent in order. Whoever asks while it is stopping waits: asked twice, it would cut its streams."""
        if self.agent is not None and self.agent.statistics().state is not AgentState.STOPPING:
            self.agent.stop()
        await self._off.wait()

    def _make_agent(self, services: LocalServices, budget: MemoryBudget) -> Agent:
        logger = TraceLogger(self._trace, self.name, self._listen).as_logger()
        url = f"{'wss' if self.secure else 'ws'}://{HOST}/tunnel"
        dialer = TunnelDialer(
            RelayUrl.parse(url, allow_plaintext=True),
            self._installation.token_files[self.number, self.credential],
            software="homeport-agent/simulated",
            ssl_context=self._installation.client_context if self.secure else None,
            environ={},
            config=TunnelConfig(yamux=Config(max_streams=self._max_streams + 256)),
            limits=HandshakeLimits(timeout=CONNECT_TIMEOUT),
            budget=budget,
            logger=logger,
            connect=self._connect,
        )

        def make_monitor(on_change: Callable[[Sequence[messages.Service]], None]) -> HealthMonitor:
            return HealthMonitor(
                services.list,
                interval=10.0,
                timeout=2.0,
                fall=3,
                rise=2,
                on_change=on_change,
                logger=logger,
                rng=self._rng,
            )

        return Agent(
            dialer,
            services.list,
            redial=Redial(base=1.0, maximum=self.retry_maximum, rng=self._rng),
            make_monitor=make_monitor,
            logger=logger,
            on_change=lambda _: None,
            max_streams=self._max_streams,
            drain_grace=DRAIN_GRACE,
        )

    async def _connect(self, host: str, port: int) -> Transport:
        assert (host, port) == (HOST, 443 if self.secure else 80)
        return await self._network.connect(self.site)

    def _listen(self, event: str, fields: dict[str, Any]) -> None:
        # What it found itself: a relay that found the device dead says so as soon as the line lets it through.
        if event == "lost" and fields["reason"] == "silence" and fields["detail"].startswith("no byte from the peer"):
            quiet = max((trio.current_time() - c.device.last_arrival for c in self.site.connections), default=15.0)
            if quiet < 14.0:
                self.failures.append(f"{self.name} declared its relay dead after {quiet:.1f} s of silence")
        elif event == "giving up" and not (self.revoked and fields["reason"] == "revoked"):
            self.failures.append(f"{self.name} gave up: {fields}")

    def _check(self, services: LocalServices, budget: MemoryBudget) -> None:
        assert self.agent is not None
        statistics = self.agent.statistics()
        if statistics.streams.streams or statistics.tunnels:
            self.left_over.append(f"{self.name} ended with {statistics}")
        if budget.used or budget.holders:
            self.left_over.append(f"{self.name} ended with {budget!r}")
