"""`/healthz`, `/readyz` and `/metrics`.

Metrics need an identity that may read them, on loopback too: behind a reverse proxy every request comes from loopback.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from api_server.auth.interfaces import Action
from api_server.health.errors import NotReadyError
from api_server.health.readiness import Readiness
from api_server.http.routes import Route
from common.metrics import expose

__all__ = ["Health", "HealthEndpoints", "Ready"]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The process is well."""

    status: Literal["ok"] = "ok"


class Ready(Health, frozen=True, kw_only=True):
    """The process takes requests."""

    database: Literal["ok", "unavailable"]
    """Without it, requests to devices are still carried; what needs it is answered 503 `database_unavailable`."""


class HealthEndpoints:
    """Serves the health checks and the metrics.

    Args:
        readiness: answers `/readyz`.
        registry: what `/metrics` shows.
    """

    def __init__(self, readiness: Readiness, registry: CollectorRegistry) -> None:
        self._readiness = readiness
        self._registry = registry

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(method="GET", path="/healthz", handler=self.check_health),
            Route(method="GET", path="/readyz", handler=self.check_readiness, errors=(NotReadyError,)),
            Route(
                method="GET",
                path="/metrics",
                handler=self.show_metrics,
                action=Action.METRICS_READ,
                media_type="text/plain",
            ),
        ]

    async def check_health(self) -> Health:
        """Whether the process is up."""
        return Health()

    async def check_readiness(self) -> Ready:
        """Whether requests should be sent here.

        Not while the process is draining, and not while it cannot reach the relay. Without its database it is ready all
        the same, and says so.
        """
        obstacle = await self._readiness.obstacle()
        if obstacle is not None:
            raise NotReadyError(obstacle, retry_after=1)
        return Ready(database="ok" if await self._readiness.database_there() else "unavailable")

    async def show_metrics(self, request: web.Request) -> web.Response:
        """Show the metrics of the process, for Prometheus."""
        content_type, body = expose(self._registry, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})
