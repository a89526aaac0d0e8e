"""What the gateway counts: plain numbers on the data path, made into metrics when somebody reads them.

prometheus_client's own counters take a lock and microseconds each; a request touches six.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from api_server.relay.dialer import ServiceDialer

__all__ = ["GatewayMetrics", "GatewayStatistics"]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds; the figure to beat for the 95th percentile is 0.05."""


@dataclass(frozen=True, slots=True)
class GatewayStatistics:
    """How a gateway is doing."""

    connections: int
    """Clients that are connected."""
    active: int
    """Of these, with a request or a raw connection under way."""
    requests: int
    """Answered so far."""
    tunnels: int
    """Raw connections and upgrades so far."""
    retries: int
    """Requests repeated because a pooled stream was stale."""
    held: int
    """Bytes that are held at the moment, for all connections together."""
    bytes_in: int
    """From clients, bodies and raw bytes."""
    bytes_out: int
    """To clients."""


class GatewayMetrics:
    """The gateway's counters, and the collector that shows them.

    Args:
        dialer: whose pool and directory are shown as well.
        registry: that shows them; None for none.
        occupancy: connections, and those of them that are active.
        held: bytes that they hold.
    """

    __slots__ = (
        "_buckets",
        "_dialer",
        "_held",
        "_occupancy",
        "_registry",
        "_seconds",
        "bytes_in",
        "bytes_out",
        "errors",
        "responses",
        "retries",
        "tunnels",
    )

    def __init__(
        self,
        dialer: ServiceDialer,
        *,
        registry: CollectorRegistry | None,
        occupancy: Callable[[], tuple[int, int]],
        held: Callable[[], int],
    ) -> None:
        self._dialer = dialer
        self._occupancy = occupancy
        self._held = held
        self._registry = registry
        self._buckets = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0
        self.responses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.tunnels = 0
        self.retries = 0
        self.bytes_in = 0
        self.bytes_out = 0
        if registry is not None:
            registry.register(_Shown(self.collect))

    def answered(self, status: int, seconds: float) -> None:
        """A request has got the head of its response after so many seconds."""
        self.responses[status] += 1
        self._seconds += seconds
        self._buckets[bisect_left(_BUCKETS, seconds)] += 1

    def statistics(self) -> GatewayStatistics:
        """The counts as they are now."""
        connections, active = self._occupancy()
        return GatewayStatistics(
            connections=connections,
            active=active,
            requests=self.responses.total(),
            tunnels=self.tunnels,
            retries=self.retries,
            held=self._held(),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
        )

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        connections, active = self._occupancy()
        yield GaugeMetricFamily("homeport_gateway_connections", "Clients that are connected.", connections)
        yield GaugeMetricFamily("homeport_gateway_active", "Clients with something under way.", active)
        yield GaugeMetricFamily("homeport_gateway_held_bytes", "Bytes held for clients and services.", self._held())
        responses = CounterMetricFamily("homeport_gateway_responses", "Responses, by status.", labels=["status"])
        for status, count in self.responses.items():
            responses.add_metric([str(status)], count)
        yield responses
        errors = CounterMetricFamily("homeport_gateway_errors", "Errors of the gateway, by code.", labels=["code"])
        for code, count in self.errors.items():
            errors.add_metric([code], count)
        yield errors
        total, buckets = 0, []
        for bound, count in zip([*map(str, _BUCKETS), "+Inf"], self._buckets, strict=True):
            total += count
            buckets.append((bound, total))
        yield HistogramMetricFamily(
            "homeport_gateway_response_seconds",
            "From a request's head to its response's.",
            buckets=buckets,
            sum_value=self._seconds,
        )
        carried = CounterMetricFamily("homeport_gateway_bytes", "Bytes carried.", labels=["direction"])
        carried.add_metric(["in"], self.bytes_in)
        carried.add_metric(["out"], self.bytes_out)
        yield carried
        yield CounterMetricFamily("homeport_gateway_tunnels", "Raw connections and upgrades.", self.tunnels)
        yield CounterMetricFamily("homeport_gateway_stale_retries", "Requests sent a second time.", self.retries)
        yield from self._streams()

    def _streams(self) -> Iterator[Metric]:
        forwarder = self._dialer.forwarder
        yield CounterMetricFamily("homeport_gateway_streams_opened", "Streams opened at the relay.", forwarder.opened)
        yield CounterMetricFamily("homeport_gateway_streams_refused", "Opens that failed.", forwarder.refused)
        absence = self._dialer.absence
        yield GaugeMetricFamily("homeport_gateway_waiting", "Requests that wait for the relay.", absence.waiting)
        yield CounterMetricFamily("homeport_gateway_waits", "Times that one waited for the relay.", absence.waited)
        pool = self._dialer.pool.statistics()
        yield GaugeMetricFamily("homeport_gateway_streams_idle", "Streams kept for the next request.", pool.idle)
        yield CounterMetricFamily("homeport_gateway_streams_reused", "Streams taken from the pool.", pool.reused)
        directory = self._dialer.directory.statistics()
        yield GaugeMetricFamily("homeport_gateway_directory_entries", "Devices remembered.", directory.entries)
        yield CounterMetricFamily("homeport_gateway_directory_lookups", "Devices asked for.", directory.lookups)


class _Shown(Collector):
    """What a registry asks."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()
