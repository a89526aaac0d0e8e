"""What is counted of provider tokens."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

__all__ = ["ProviderTokenMetrics"]


class ProviderTokenMetrics:
    """Refreshes and hand-outs.

    Args:
        registry: that shows them.
    """

    __slots__ = ("handed_out", "refreshes")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refreshes = Counter(
            "homeport_provider_token_refreshes_total",
            "Refresh tokens that were sent, by provider and outcome: ok, or the code of what went wrong.",
            ["provider", "outcome"],
            registry=registry,
        )
        self.handed_out = Counter(
            "homeport_provider_tokens_handed_out_total",
            "Access tokens of providers that were handed out.",
            ["provider"],
            registry=registry,
        )
