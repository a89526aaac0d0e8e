"""What the REST API counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

__all__ = ["RestMetrics"]


class RestMetrics:
    """Requests by route, as it is registered: the number of label values is bounded by the code."""

    __slots__ = ("refused", "requests", "seconds")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "homeport_api_requests_total",
            "Requests to the REST API, by route, method and status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "homeport_api_request_seconds",
            "Time from the head of a request to the end of its answer, without event streams.",
            ("route",),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.refused = Counter(
            "homeport_api_unauthenticated_total",
            "Requests to the REST API without an identity, by the code of the answer.",
            ("code",),
            registry=registry,
        )
