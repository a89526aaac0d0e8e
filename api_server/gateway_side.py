"""The gateway and what it forwards to, put together from their parts: part of the composition root, which `server` is.

Gateway ─┬─ RouteTable ── TargetMaker ─┬─ ServiceDialer     devices
         │                             └─ Backends          URLs
         ├─ Governor, RequestRecorder                       how much passes, and what is kept of it
         └─ CallerWatch, RouteWatch                         end what may not go on
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Coroutine
from typing import Any

from prometheus_client import CollectorRegistry

from api_server.backends import BackendMetrics, Backends
from api_server.broker.interfaces import TokenSource
from api_server.changes.feed import ChangeFeed
from api_server.db.database import Database
from api_server.devices.book import DeviceBook
from api_server.gateway.callers import CallerWatch
from api_server.gateway.gateway import Gateway
from api_server.gateway.governor import Governor
from api_server.gateway.limits import GatewayLimits
from api_server.gateway.route_calls import RouteWatch
from api_server.inspector.recorder import RequestRecorder
from api_server.limits.limiter import Limiter
from api_server.outbound.outbound import Outbound
from api_server.programs import Programs
from api_server.relay import EventFeed, ServiceDialer
from api_server.routing.health import HealthChecks, ServiceProbe
from api_server.routing.metrics import RoutingMetrics
from api_server.routing.presence import DevicePresence
from api_server.routing.route_table import RouteTable
from api_server.routing.targets import TargetMaker
from api_server.settings import ApiSettings
from api_server.sign_in import SignIn
from api_server.usage.recorder import UsageRecorder
from common.clock import Clock
from common.crypto.envelope import Envelope

__all__ = ["GatewaySide"]


class GatewaySide:
    """Everything about the gateway.

    Args:
        settings: what the server was told.
        database: of the routes.
        dialer: gets streams to devices.
        outbound: gets connections to backends.
        envelope: opens upstream secrets.
        tokens: has tokens of providers.
        programs: knows who asks with a token.
        sign_in: knows who asks with a browser.
        limiter: knows the limits.
        usage: counts.
        feed: tells which devices are there.
        changes: tells of routes, tokens and people.
        registry: that shows the metrics.
        clock: of both kinds.
    """

    def __init__(
        self,
        settings: ApiSettings,
        *,
        database: Database,
        dialer: ServiceDialer,
        outbound: Outbound,
        envelope: Envelope,
        tokens: TokenSource,
        programs: Programs,
        sign_in: SignIn,
        limiter: Limiter,
        usage: UsageRecorder,
        feed: EventFeed,
        changes: ChangeFeed,
        registry: CollectorRegistry,
        clock: Clock,
    ) -> None:
        backends = Backends(
            outbound.connector,
            connect_timeout=settings.backend_connect_timeout,
            max_connections=settings.max_backend_connections,
            max_per_backend=settings.max_connections_per_backend,
        )
        BackendMetrics(backends, registry)
        presence = DevicePresence()
        self._health_checks = HealthChecks(ServiceProbe(dialer), clock.monotonic)
        self.routes = RouteTable(
            database,
            DeviceBook(),
            TargetMaker(
                dialer=dialer,
                backends=backends,
                targets=outbound.policy,
                envelope=envelope,
                tokens=tokens,
                presence=presence,
                limits=limiter,
                clock=clock,
            ),
            presence,
            self._health_checks,
        )
        """The routes that the gateway knows."""
        RoutingMetrics(self.routes, self._health_checks, registry)
        feed.add(presence)
        changes.add(self.routes)
        changes.add(self.routes.labels)
        self.recorder = RequestRecorder(
            clock,
            max_requests=settings.inspector_requests,
            max_body=settings.inspector_body_bytes,
            max_bytes=settings.inspector_bytes,
            max_age=settings.inspector_age,
        )
        """Keeps requests to routes that are inspected."""
        self.gateway = Gateway(
            authenticator=programs.authenticator,
            dialer=dialer,
            clock=clock,
            limits=_limits(settings),
            domain=settings.gateway_domain,
            router=self.routes,
            backends=backends,
            browsers=sign_in.gateway if sign_in.at_gateway else None,
            registry=registry,
            governor=Governor(limiter, usage, dialer.directory.id_of),
            recorder=self.recorder,
        )
        self.routes.on_replaced(RouteWatch(self.gateway.connections).replaced)
        self._callers = CallerWatch(self.gateway.connections, programs.verifier, clock)
        for each in self._callers.listeners():
            changes.add(each)

    def tasks(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What runs for as long as the server does."""
        return self._callers.run, self.routes.run, self._health_checks.run


def _limits(settings: ApiSettings) -> GatewayLimits:
    return GatewayLimits(
        max_connections=settings.max_gateway_connections,
        max_head_bytes=settings.max_header_bytes,
        max_body_bytes=settings.max_body_bytes,
        header_timeout=settings.header_timeout,
        keepalive_timeout=settings.keepalive_timeout,
        open_timeout=settings.open_timeout,
        service_timeout=settings.service_timeout,
        stream_idle_timeout=settings.stream_idle_timeout,
        trusted_proxies=tuple(ipaddress.ip_network(network) for network in settings.trusted_proxies),
    )
