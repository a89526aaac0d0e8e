"""Every endpoint of the REST API, in one list: what the process serves, the reference describes and the tests walk."""

from __future__ import annotations

from importlib import metadata
from typing import Any, Protocol

from api_server.audit.endpoints import AuditEndpoints
from api_server.auth.signin.endpoints import SignInEndpoints
from api_server.auth.signin.gateway_endpoints import GatewaySignInEndpoints
from api_server.broker.endpoints import BrokerEndpoints
from api_server.broker.token_endpoints import TokenEndpoints
from api_server.console.endpoints import ConsoleEndpoints
from api_server.devices.endpoints import DeviceEndpoints
from api_server.devices.pairing.endpoints import PairingEndpoints
from api_server.events.endpoints import EventEndpoints
from api_server.health.endpoints import HealthEndpoints
from api_server.http.openapi import openapi_document
from api_server.http.reference import ReferenceEndpoints
from api_server.http.routes import Route
from api_server.inspector.endpoints import InspectorEndpoints
from api_server.limits.endpoints import LimitEndpoints
from api_server.provider_tokens.endpoints import ProviderEndpoints
from api_server.routing.endpoints import RouteEndpoints
from api_server.routing.secret_endpoints import UpstreamSecretEndpoints
from api_server.sessions.endpoints import SessionEndpoints
from api_server.teams.endpoints import TeamEndpoints
from api_server.tokens.endpoints import ApiTokenEndpoints
from api_server.usage.endpoints import UsageEndpoints
from api_server.webhooks.endpoints import WebhookEndpoints

__all__ = ["Endpoints", "rest_document", "rest_routes"]


class Endpoints(Protocol):
    """What a domain serves."""

    def routes(self) -> list[Route]:
        """The endpoints."""
        ...


def rest_routes(*domains: Endpoints) -> list[Route]:
    """The endpoints of all domains, and those that describe them."""
    routes = [route for domain in domains for route in domain.routes()]
    return [*routes, *ReferenceEndpoints(routes, version=metadata.version("homeport")).routes()]


def rest_document() -> dict[str, Any]:
    """The OpenAPI document, without a server."""
    absent: Any = None  # nothing is called: a description needs none of what the handlers work with
    routes = rest_routes(
        SignInEndpoints(absent, absent, absent, absent, absent),
        GatewaySignInEndpoints(absent, absent),
        InspectorEndpoints(absent, absent, absent, database=absent, audit=absent, process=absent),
        ConsoleEndpoints(),
        TeamEndpoints(absent, absent),
        DeviceEndpoints(absent),
        BrokerEndpoints(absent, absent),
        TokenEndpoints(absent, absent),
        LimitEndpoints(absent, absent),
        UsageEndpoints(absent),
        ApiTokenEndpoints(absent),
        WebhookEndpoints(absent),
        PairingEndpoints(absent, absent, absent, absent, public_url=absent),
        RouteEndpoints(absent),
        UpstreamSecretEndpoints(absent),
        ProviderEndpoints(absent, absent, absent),
        AuditEndpoints(absent),
        EventEndpoints(absent),
        HealthEndpoints(absent, absent),
        SessionEndpoints(absent, absent, absent),
    )
    return openapi_document(routes, version=metadata.version("homeport"))
