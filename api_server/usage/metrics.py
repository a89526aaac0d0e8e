"""What the recorder of usage counts about itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["UsageMetrics"]


class UsageMetrics:
    """Whether usage is kept."""

    __slots__ = ("failed", "folded", "lost", "waiting", "written")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.written = Counter(
            "homeport_usage_written_total", "Requests whose usage is in the database.", registry=registry
        )
        self.lost = Counter(
            "homeport_usage_lost_total",
            "Requests whose usage was given up: there was no room for it.",
            registry=registry,
        )
        self.folded = Counter(
            "homeport_usage_folded_total",
            "Requests that are counted for their team alone: too many different ones in one interval.",
            registry=registry,
        )
        self.failed = Counter(
            "homeport_usage_write_failures_total", "Writes that the database did not take.", registry=registry
        )
        self.waiting = Gauge("homeport_usage_waiting", "Counts that are not in the database yet.", registry=registry)
