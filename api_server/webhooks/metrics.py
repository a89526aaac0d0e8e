"""What webhooks count."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["WebhookMetrics"]


class WebhookMetrics:
    """Events and deliveries."""

    __slots__ = ("attempts", "busy", "disabled", "events", "lost")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "homeport_webhook_events_total", "Events that a webhook wanted, by this process.", registry=registry
        )
        self.lost = Counter(
            "homeport_webhook_events_lost_total", "Events that were given up before they were kept.", registry=registry
        )
        self.attempts = Counter(
            "homeport_webhook_attempts_total",
            "Attempts to deliver, by what came of them.",
            ["result"],
            registry=registry,
        )
        self.disabled = Counter(
            "homeport_webhooks_disabled_total", "Webhooks that were disabled by what they answered.", registry=registry
        )
        self.busy = Gauge("homeport_webhook_busy", "Deliveries that are under way.", registry=registry)
