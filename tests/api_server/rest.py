"""A REST API that listens on a free port, with fakes behind it, and clients of it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.endpoints import AuditEndpoints
from api_server.audit.store import AuditReader, Filter, Recorded
from api_server.auth.admin_token import AdminTokenAuthenticator
from api_server.auth.interfaces import Action, Authenticator, CookieAuthenticator, Identity, Pending
from api_server.auth.signin.endpoints import SignInEndpoints
from api_server.auth.signin.gateway_endpoints import GatewaySignInEndpoints
from api_server.auth.signin.store import DatabaseSignInStore
from api_server.changes.feed import ChangeFeed
from api_server.db.database import Database
from api_server.db.schema import METADATA
from api_server.devices.tables import devices
from api_server.domains import Domains
from api_server.events.endpoints import EventEndpoints
from api_server.events.hub import EventHub
from api_server.events.metrics import EventMetrics
from api_server.health.endpoints import HealthEndpoints
from api_server.health.readiness import Readiness
from api_server.http.application import RestApplication
from api_server.http.metrics import RestMetrics
from api_server.http.routes import Route
from api_server.http.server import RestServer
from api_server.limits.limiter import Limiter
from api_server.limits.metrics import LimitMetrics
from api_server.rest import rest_routes
from api_server.sessions.endpoints import SessionEndpoints
from api_server.teams.memberships import DatabaseMemberships
from api_server.teams.tables import teams
from api_server.tokens.keys import TokenKeys
from common.crypto.api_tokens import new_api_token
from common.crypto.envelope import Envelope
from common.crypto.key_lines import new_key_line
from common.crypto.keyring import Keyring, new_wrapping_key
from common.crypto.session_tokens import SessionTokenSigner
from common.guesses import GuessLimiter
from common.ids import TeamId
from common.secret import Secret
from tests.api_server.audit_lines import RecordedAudit
from tests.api_server.auth.signin.nobody import nobody_opens_pages, nobody_signs_in
from tests.api_server.changes.recorded import AlwaysFresh, RecordedChanges
from tests.api_server.fakes import AWAY, HOME, FakeClock, FakeDatabase, FakeRelay, FakeStore
from tests.api_server.outbound.stage import no_outbound
from tests.api_server.provider_tokens.stage import connections_over

ADMIN = new_api_token()
VIEWER = new_api_token()
BOTH_TEAMS = new_api_token()
NO_TEAM = new_api_token()
LIMIT = 4096
"""Bytes of a body."""


class FakeAudit:
    """An audit log without entries."""

    async def page(self, wanted: Filter, *, limit: int, before: int | None) -> list[Recorded]:
        return []


class FakeAuthenticator:
    """The administration token, and identities that have less than it, or other rights. Those are known only after
    waiting, as those of a database would be.
    """

    def __init__(self, clock: FakeClock) -> None:
        self._admin = AdminTokenAuthenticator(ADMIN, HOME, clock=clock, guesses=GuessLimiter(burst=3, interval=10))
        everything = frozenset(Action)
        self._others = {
            VIEWER.reveal(): _identity("viewer", {HOME: frozenset({Action.SESSIONS_READ})}),
            BOTH_TEAMS.reveal(): _identity("both", {HOME: everything, AWAY: everything}),
            NO_TEAM.reveal(): _identity("nowhere", {}),
        }

    def authenticate_nowait(self, credential: Secret, *, address: str) -> Identity | Pending | None:
        if credential.reveal() in self._others:
            return Pending.PENDING
        return self._admin.authenticate_nowait(credential, address=address)

    async def authenticate(self, credential: Secret, *, address: str) -> Identity | None:
        return self._others.get(credential.reveal())


def _identity(name: str, teams: Mapping[TeamId, frozenset[Action]]) -> Identity:
    return Identity(kind="user", id=f"id-{name}", name=name, teams=teams)


@dataclass
class Api:
    """A REST API that listens, and what stands behind it."""

    url: str
    port: int
    application: web.Application
    routes: list[Route]
    server: RestServer
    store: FakeStore
    relay: FakeRelay
    database: FakeDatabase
    domains: Domains
    audit: RecordedAudit
    clock: FakeClock
    hub: EventHub
    readiness: Readiness
    registry: CollectorRegistry
    logs: io.StringIO
    http: httpx.AsyncClient

    async def get(self, path: str, *, token: Secret | None = ADMIN, **options: Any) -> httpx.Response:
        return await self.call("GET", path, token=token, **options)

    async def call(self, method: str, path: str, *, token: Secret | None = ADMIN, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers.setdefault("Authorization", f"Bearer {token.reveal()}")
        return await self.http.request(method, path, headers=headers, **options)


def _kept_log(stream: io.StringIO) -> Any:
    """A log that masks nothing, so that a test sees what was said."""
    return structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
    )


@asynccontextmanager
async def _domains(
    signer: SessionTokenSigner, clock: FakeClock, relay: FakeRelay, audit: RecordedAudit
) -> AsyncIterator[Domains]:
    """The domains over a database of their own, in which both teams have a device `front-door`."""
    with tempfile.TemporaryDirectory() as folder:
        async with Database.connect(f"sqlite:///{folder}/homeport.db") as database:
            async with database.administer() as connection:
                await connection.run_sync(METADATA.create_all)
                await connection.commit()
            memberships = DatabaseMemberships(database, clock)
            domains = Domains(
                database=database,
                audit=audit,
                accounts=DatabaseSignInStore(database, audit, memberships),
                changes=RecordedChanges(ChangeFeed(database, clock)),
                freshness=AlwaysFresh(),
                relay=relay,
                envelope=Envelope(Keyring([new_wrapping_key()])),
                outbound=no_outbound(),
                signer=signer,
                clock=clock,
                limiter=Limiter(clock, LimitMetrics(CollectorRegistry())),
                registry=CollectorRegistry(),
                tunnel_url="ws://relay/tunnel",
                public_url=lambda: "http://api.test",
                token_keys=TokenKeys(new_key_line()),
                api_token_max_lifetime=0,
                token_lifetime=3600,
                token_max_lifetime=86400,
            )
            await memberships.prepare(HOME)
            await database.write(_furnish)
            yield domains


async def _furnish(tx: AsyncConnection) -> None:
    await tx.execute(insert(teams).values(id=AWAY, name=AWAY, description="", created_at=0))
    for team, number in ((HOME, 1), (AWAY, 2)):
        await tx.execute(
            insert(devices).values(
                id=f"dev-{number:032x}",
                team_id=team,
                name="front-door",
                services=[],
                created_at=0,
                created_by_kind="user",
                created_by="usr_0",
            )
        )


@asynccontextmanager
async def running_api(
    signer: SessionTokenSigner,
    store: FakeStore | None = None,
    *,
    more: list[Route] | None = None,
    authenticator: Authenticator | None = None,
    sign_in: SignInEndpoints | None = None,
    pages: GatewaySignInEndpoints | None = None,
    audit: AuditReader | None = None,
    sessions: CookieAuthenticator | None = None,
    heartbeat: float = 15.0,
    public_origin: str | None = None,
    max_followers: int = 10,
    max_waiting: int = 64,
    log: Literal["kept"] | None = "kept",
) -> AsyncIterator[Api]:
    """An API that listens on 127.0.0.1 for as long as the block runs.

    Args:
        signer: of session tokens.
        store: of sessions; an empty one by default.
        more: routes beside the usual ones.
        sign_in: serves `/api/auth`; by default nobody can sign in.
        pages: serves `/api/auth/gateway`; by default nobody can sign in there either.
        sessions: of people who have.
        log: `kept` in `Api.logs`; None for the log of the process.
    """
    clock, relay, database, lines = FakeClock(), FakeRelay(), FakeDatabase(), RecordedAudit()
    store = store if store is not None else FakeStore()
    registry = CollectorRegistry()
    hub = EventHub(
        metrics=EventMetrics(registry), max_followers=max_followers, kept=max_waiting // 2, max_waiting=max_waiting
    )
    readiness = Readiness(relay, database, clock)
    async with _domains(signer, clock, relay, lines) as domains:
        routes = rest_routes(
            sign_in if sign_in is not None else nobody_signs_in(clock),
            pages if pages is not None else nobody_opens_pages(clock),
            AuditEndpoints(audit if audit is not None else FakeAudit()),
            EventEndpoints(hub, heartbeat=heartbeat),
            HealthEndpoints(readiness, registry),
            SessionEndpoints(store, domains.devices, domains.journal),
            *domains.endpoints,
            *connections_over(domains, clock).endpoints,
        )
        logs = io.StringIO()
        application = RestApplication(
            authenticator=authenticator if authenticator is not None else FakeAuthenticator(clock),
            sessions=sessions,
            metrics=RestMetrics(registry),
            public_origin=public_origin,
            max_request_bytes=LIMIT,
            log=_kept_log(logs) if log is not None else None,
        )
        built = application.build([*routes, *(more or [])])
        server = RestServer(built)
        port = await server.start("127.0.0.1", 0)
        url = f"http://127.0.0.1:{port}"
        try:
            # Without TLS there is nothing to verify, and loading the certificates for it takes longer than most tests.
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20, verify=False) as http:
                yield Api(
                    url=url,
                    port=port,
                    application=built,
                    routes=routes,
                    server=server,
                    store=store,
                    relay=relay,
                    database=database,
                    domains=domains,
                    audit=lines,
                    clock=clock,
                    hub=hub,
                    readiness=readiness,
                    registry=registry,
                    logs=logs,
                    http=http,
                )
        finally:
            hub.close()
            await server.close()


__all__ = ["ADMIN", "BOTH_TEAMS", "LIMIT", "NO_TEAM", "VIEWER", "Api", "FakeAuthenticator", "running_api"]
