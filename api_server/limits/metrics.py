"""What the limits count."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["LimitMetrics"]


class LimitMetrics:
    """Refusals, and how the shared counter is doing."""

    __slots__ = ("alone", "asked", "away", "failed", "refused", "waited")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refused = Counter(
            "homeport_limits_refused_total",
            "What limits refused, by the kind of subject and what was limited.",
            ["kind", "limit"],
            registry=registry,
        )
        self.asked = Counter(
            "homeport_limits_shared_asked_total", "Times that the shared counter was asked.", registry=registry
        )
        self.failed = Counter("homeport_limits_shared_failed_total", "Times that it did not answer.", registry=registry)
        self.alone = Counter(
            "homeport_limits_alone_total",
            "Decisions while it was away: open (this process counted for itself) or closed (refused).",
            ["how"],
            registry=registry,
        )
        self.away = Gauge("homeport_limits_shared_away", "1 while the shared counter is away.", registry=registry)
        self.waited = Counter(
            "homeport_limits_waited_total", "Requests that had to wait for the shared counter.", registry=registry
        )
