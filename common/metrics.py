"""Metrics: one registry a process, made by the composition root and passed by constructor.

There is no global registry: two relays in one test process do not count into each other. A component declares its
metrics where it is constructed, under names that begin with `homeport_`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["expose", "new_registry"]


def new_registry() -> CollectorRegistry:
    """A registry that already has what is expected of any process: CPU, memory, descriptors, collector runs, tasks."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_TaskCollector())
    return registry


class _TaskCollector(Collector):
    """Counts the tasks of the event loop in which the scrape is answered; nothing outside of one."""

    def collect(self) -> Iterator[Metric]:
        try:
            tasks = len(asyncio.all_tasks())
        except RuntimeError:
            return
        yield GaugeMetricFamily("homeport_tasks", "Tasks of the event loop, the one that answers included.", tasks)


def expose(registry: CollectorRegistry, accept: str = "") -> tuple[str, bytes]:
    """The metrics as text.

    Args:
        accept: the `Accept` header of the request, which chooses between the Prometheus and the OpenMetrics format.

    Returns:
        The content type and the body.
    """
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)
