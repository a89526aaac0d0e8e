"""Metrics: one registry a process, made by the composition root and passed by constructor.

There is no global registry: two relays in one test process do not count into each other. A component declares its
metrics where it is constructed, under names that begin with `homeport_`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

__all__ = ["expose", "new_registry"]


def new_registry() -> CollectorRegistry:
    """A registry that already has what Prometheus expects of any process: CPU, memory, descriptors, collector runs."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def expose(registry: CollectorRegistry, accept: str = "") -> tuple[str, bytes]:
    """The metrics as text.

    Args:
        accept: the `Accept` header of the request, which chooses between the Prometheus and the OpenMetrics format.

    Returns:
        The content type and the body.
    """
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)
