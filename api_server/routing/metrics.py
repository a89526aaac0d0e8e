"""What a gateway shows of its routes."""

from __future__ import annotations

from collections.abc import Sized

from prometheus_client import CollectorRegistry, Gauge

from api_server.routing.health import HealthChecks

__all__ = ["RoutingMetrics"]


class RoutingMetrics:
    """Gauges, read when they are asked for.

    Args:
        table: the routes.
        checks: of the devices that they share.
        registry: that shows them.
    """

    def __init__(self, table: Sized, checks: HealthChecks, registry: CollectorRegistry) -> None:
        routes = Gauge("homeport_routes", "Routes that this gateway knows.", registry=registry)
        routes.set_function(lambda: len(table))
        unwell = Gauge(
            "homeport_route_devices_unwell", "Devices that routes pass over, by their own checks.", registry=registry
        )
        unwell.set_function(checks.unwell)
