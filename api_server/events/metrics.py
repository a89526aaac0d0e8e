"""What the event streams count."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["EventMetrics"]


class EventMetrics:
    """Followers and events."""

    __slots__ = ("cut", "events", "followers", "lost")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.followers = Gauge("homeport_api_event_followers", "Clients that follow /api/events.", registry=registry)
        self.events = Counter("homeport_api_events_total", "Events that came from the relay.", registry=registry)
        self.lost = Counter(
            "homeport_api_events_lost_total", "Times that events of the relay were lost on the way.", registry=registry
        )
        self.cut = Counter(
            "homeport_api_event_followers_cut_total", "Followers cut off because they were slow.", registry=registry
        )
