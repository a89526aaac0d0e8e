"""The relay's metrics. Nothing is counted for them on the way of a stream: they are read off at a scrape.

No metric has a label a device, a session or a team: with 20,000 devices that would be the largest thing in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from common.metrics import expose
from common.tunnel.holdings import Holdings
from common.yamux import MemoryBudget
from remote_proxy.events import EventRing
from remote_proxy.internal.connections import ConnectionListener
from remote_proxy.revocations import Revocations
from remote_proxy.store import InMemoryStore
from remote_proxy.tunnels.admission import Gate
from remote_proxy.tunnels.listener import BoundedListener
from remote_proxy.tunnels.live import LiveTunnels
from remote_proxy.tunnels.session import LiveTunnel
from remote_proxy.tunnels.traffic import Traffic

__all__ = ["RelayMetrics"]

_BATCH = 500
"""Tunnels that are read in one turn of the loop: about a millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # the registry tells collectors apart by identity
class RelayMetrics(Collector):
    """Reads the relay's parts at each scrape.

    Args:
        limits: the settings that are limits, by name; a dashboard divides by them.
        draining: whether the relay is draining.
    """

    store: InMemoryStore[LiveTunnel]
    live: LiveTunnels[LiveTunnel]
    traffic: Traffic
    gate: Gate
    tunnel_listener: BoundedListener
    connections: ConnectionListener
    revocations: Revocations
    events: EventRing
    budget: MemoryBudget
    holdings: Holdings
    limits: Mapping[str, float]
    draining: Callable[[], bool]

    async def expose(self, registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
        """The text of `registry`, with the totals brought up to date in steps that do not hold up the loop."""
        streams = 0
        for number, tunnel in enumerate(self.live, start=1):
            streams += tunnel.account()
            if number % _BATCH == 0:
                await asyncio.sleep(0)
        self.traffic.streams = streams
        return expose(registry, accept)

    def collect(self) -> Iterator[Metric]:
        yield from self._tunnels()
        yield from self._streams()
        yield from self._ports()
        yield from self._memory()

    def _tunnels(self) -> Iterator[Metric]:
        statistics = self.store.statistics()
        yield _gauge("sessions", "Sessions in the store.", statistics.sessions)
        yield _gauge("tunnels", "Open tunnels, closing and draining ones included.", len(self.live))
        yield _counters("tunnels_opened", "Tunnels opened.", "subprotocol", self.traffic.tunnels_opened)
        yield _counters("tunnels_closed", "Tunnels closed, by reason.", "reason", self.traffic.tunnels_closed)
        yield _counter("sessions_replaced", "Sessions taken over by a newer one.", statistics.replaced)
        yield _counter("sessions_expired", "Sessions ended by the reaper.", statistics.expired)
        yield _counters("handshakes", "Handshakes decided, by outcome.", "outcome", self.gate.outcomes)

    def _streams(self) -> Iterator[Metric]:
        traffic = self.traffic
        yield _gauge("streams", "Open streams that carry a service.", traffic.streams)
        yield _counter("streams_opened", "Streams that a device accepted.", traffic.opened)
        yield _counters("stream_opens_failed", "Streams that did not open, by code.", "code", traffic.opens_failed)
        family = CounterMetricFamily(
            "homeport_relay_payload_bytes", "Payload carried; in is from devices.", labels=["direction"]
        )
        family.add_metric(["in"], traffic.bytes_in)
        family.add_metric(["out"], traffic.bytes_out)
        yield family

    def _ports(self) -> Iterator[Metric]:
        connections = self.connections.statistics()
        yield _gauge("handshakes_pending", "Tunnel connections in their handshake.", self.tunnel_listener.pending)
        yield _counter("handshakes_overflowed", "Tunnel connections turned away unread.", self.tunnel_listener.refused)
        yield _gauge("internal_pending", "Internal connections without a request yet.", connections.pending)
        yield _counter("internal_refused", "Stream requests and heads refused.", connections.refused)

    def _memory(self) -> Iterator[Metric]:
        yield _gauge("window_bytes", "Receive windows granted beyond 256 KiB a stream.", self.budget.used)
        yield _gauge("held_bytes", "Bytes held for readers that do not take them.", self.holdings.used)
        yield _counter("streams_shed", "Streams reset because the relay held too much.", self.holdings.shed)
        yield _gauge("revocations", "Revocations in force.", len(self.revocations))
        yield _counter("events", "Session events since the start.", self.events.last)
        yield _gauge("draining", "1 while the relay drains.", float(self.draining()))
        family = GaugeMetricFamily("homeport_relay_limit", "Limits, by the name of their setting.", labels=["limit"])
        for name, value in self.limits.items():
            family.add_metric([name], value)
        yield family


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"homeport_relay_{name}", documentation, value=value)


def _counter(name: str, documentation: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"homeport_relay_{name}", documentation, value=value)


def _counters(name: str, documentation: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"homeport_relay_{name}", documentation, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([str(key)], value)
    return family
