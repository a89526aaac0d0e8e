"""What the broker counts. A hit is plain numbers: it is asked for more often than anything else here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from api_server.broker.breaker import State

__all__ = ["BrokerMetrics"]

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class BrokerMetrics(Collector):
    """Counters of a process.

    Args:
        registry: that shows them.
        breakers: how many providers are in each state of a breaker.
    """

    def __init__(self, registry: CollectorRegistry, breakers: Callable[[], dict[str, int]]) -> None:
        self.hits = 0
        """Served from memory, and not due."""
        self.stale = 0
        """Served from memory, while the next one is fetched."""
        self.misses = 0
        """Neither: the database was asked, and perhaps the provider."""
        self._breakers = breakers
        self.fetches = Counter(
            "homeport_broker_fetches", "Calls to providers, by what came of them.", ["outcome"], registry=registry
        )
        self.fetch_seconds = Histogram(
            "homeport_broker_fetch_seconds", "Time that a provider took.", buckets=_BUCKETS, registry=registry
        )
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        served = CounterMetricFamily(
            "homeport_broker_requests",
            "Tokens asked for: hit (from memory), stale (from memory, the next one is on its way), miss.",
            labels=["result"],
        )
        for result, count in (("hit", self.hits), ("stale", self.stale), ("miss", self.misses)):
            served.add_metric([result], count)
        yield served
        breakers = GaugeMetricFamily(
            "homeport_broker_breakers", "Providers, by the state of their circuit breaker.", labels=["state"]
        )
        found = self._breakers()
        for state in State:
            breakers.add_metric([state.value], found.get(state.value, 0))
        yield breakers
