"""What is counted about API tokens."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["TokenMetrics"]


class TokenMetrics:
    """Counters and gauges.

    Args:
        registry: that shows them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lookups = Counter(
            "homeport_api_token_lookups_total",
            "Looks into the database for a token that was not remembered.",
            ("outcome",),
            registry=registry,
        )
        self.remembered = Gauge(
            "homeport_api_tokens_remembered", "Verified API tokens in the memory of the process.", registry=registry
        )
        self.uses_lost = Counter(
            "homeport_api_token_uses_lost_total",
            "Uses of API tokens whose time was not written down, for want of room or of a database.",
            registry=registry,
        )
