"""Every endpoint of the REST API, in one list: what the process serves, the reference describes and the tests walk."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from prometheus_client import CollectorRegistry

from api_server.audit.endpoints import AuditEndpoints
from api_server.audit.store import AuditReader
from api_server.auth.signin.endpoints import SignInEndpoints
from api_server.devices.endpoints import DeviceEndpoints
from api_server.devices.interfaces import Revoker
from api_server.events.endpoints import EventEndpoints
from api_server.events.hub import EventHub
from api_server.health.endpoints import HealthEndpoints
from api_server.health.readiness import Readiness
from api_server.http.openapi import openapi_document
from api_server.http.reference import ReferenceEndpoints
from api_server.http.routes import Route
from api_server.sessions.endpoints import SessionEndpoints
from common.clock import Clock
from common.crypto.session_tokens import SessionTokenSigner
from common.sessions.interfaces import Store

__all__ = ["rest_document", "rest_routes"]


def rest_routes(
    *,
    sign_in: SignInEndpoints,
    audit: AuditReader,
    store: Store,
    revoker: Revoker,
    signer: SessionTokenSigner,
    clock: Clock,
    hub: EventHub,
    readiness: Readiness,
    registry: CollectorRegistry,
    tunnel_url: str,
    token_lifetime: float,
    token_max_lifetime: float,
    heartbeat: float = 15.0,
) -> list[Route]:
    """The endpoints.

    Args:
        sign_in: of people.
        audit: what was done.
        store: who is connected.
        revoker: the relay.
        signer: of session tokens.
        clock: for the times in them.
        hub: what happens to sessions.
        readiness: whether requests should be sent here.
        registry: of the metrics.
        tunnel_url: that devices dial.
        token_lifetime: seconds, of a session token whose request names none.
        token_max_lifetime: seconds, of any.
        heartbeat: seconds of silence on an event stream.
    """
    routes = [
        *sign_in.routes(),
        *AuditEndpoints(audit).routes(),
        *DeviceEndpoints(
            signer=signer,
            revoker=revoker,
            clock=clock,
            tunnel_url=tunnel_url,
            lifetime=token_lifetime,
            max_lifetime=token_max_lifetime,
        ).routes(),
        *EventEndpoints(hub, heartbeat=heartbeat).routes(),
        *HealthEndpoints(readiness, registry).routes(),
        *SessionEndpoints(store).routes(),
    ]
    return [*routes, *ReferenceEndpoints(routes, version=metadata.version("homeport")).routes()]


def rest_document() -> dict[str, Any]:
    """The OpenAPI document, without a server."""
    absent: Any = None  # nothing is called: a description needs none of what the handlers work with
    routes = rest_routes(
        sign_in=SignInEndpoints(absent, absent, absent, absent, absent),
        audit=absent,
        store=absent,
        revoker=absent,
        signer=absent,
        clock=absent,
        hub=absent,
        readiness=absent,
        registry=absent,
        tunnel_url="",
        token_lifetime=0,
        token_max_lifetime=0,
    )
    return openapi_document(routes, version=metadata.version("homeport"))
