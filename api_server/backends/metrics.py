"""What `/metrics` says about backends."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api_server.backends.backends import Backends

__all__ = ["BackendMetrics"]


class BackendMetrics(Collector):
    """The figures of `Backends`, read when somebody asks.

    Args:
        backends: of the gateway.
        registry: that shows them; None for none.
    """

    def __init__(self, backends: Backends, registry: CollectorRegistry | None) -> None:
        self._backends = backends
        if registry is not None:
            registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        now = self._backends.statistics()
        yield GaugeMetricFamily("homeport_gateway_backend_connections", "Connections to backends.", now.open)
        yield GaugeMetricFamily("homeport_gateway_backend_idle", "Those kept for the next request.", now.idle)
        yield CounterMetricFamily("homeport_gateway_backend_opened", "Connections opened to backends.", now.opened)
        yield CounterMetricFamily("homeport_gateway_backend_reused", "Connections used again.", now.reused)
        refused = CounterMetricFamily(
            "homeport_gateway_backend_refused", "Connections that could not be had.", labels=["code"]
        )
        for code, count in now.refused.items():
            refused.add_metric([code], count)
        yield refused
