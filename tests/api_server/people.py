"""The domains that live in the database, behind a REST API that listens, with people and programs to call it.

    async with running_domains(database, signer) as home:
        ann = await home.person("ann", home=Role.ADMIN)
        answer = await home.call("POST", "/api/teams", ann, json={"id": "workshop"})

A person is known by a token that only this stage understands; that sign-in gives people cookies is tested where
sign-in is. What they may do is looked up in the database for each request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.endpoints import AuditEndpoints
from api_server.audit.interfaces import AuditLog
from api_server.audit.store import AuditStore
from api_server.auth.interfaces import PENDING, Action, Identity, Pending
from api_server.auth.signin.store import DatabaseSignInStore
from api_server.auth.signin.tables import users
from api_server.changes.feed import ChangeFeed
from api_server.connections import Connections
from api_server.db.database import Database
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
from api_server.outbound.outbound import Outbound
from api_server.programs import Programs
from api_server.rest import Endpoints, rest_routes
from api_server.sessions.endpoints import SessionEndpoints
from api_server.teams.memberships import DatabaseMemberships
from api_server.teams.roles import Role, actions_of, installation_actions_of
from api_server.teams.store import TeamStore
from api_server.tokens.keys import TokenKeys
from common.crypto.envelope import Envelope
from common.crypto.key_lines import new_key_line
from common.crypto.keyring import Keyring, new_wrapping_key
from common.crypto.session_tokens import SessionTokenSigner
from common.guesses import GuessLimiter
from common.ids import TeamId, new_id
from common.secret import Secret
from tests.api_server.audit_lines import RecordedAudit
from tests.api_server.auth.signin.nobody import nobody_signs_in
from tests.api_server.changes.recorded import AlwaysFresh, RecordedChanges
from tests.api_server.fakes import HOME, FakeClock, FakeRelay, FakeStore
from tests.api_server.outbound.stage import no_outbound
from tests.api_server.provider_tokens.stage import Wiring, connections_over

__all__ = ["DAY", "PROGRAM", "TUNNEL", "Home", "Person", "running_domains"]

DAY = 24 * 3600.0
TOKEN_KEYS = TokenKeys(new_key_line())
TUNNEL = "ws://relay.test/tunnel"


@dataclass(frozen=True)
class Person:
    """Somebody who can be called in the name of."""

    id: str
    email: str
    token: Secret


PROGRAM = Person("hp_program", "", Secret("hp_program"))
"""The administration token: everything in the first team, and administration."""


@dataclass
class Home:
    """What runs."""

    database: Database
    domains: Domains
    connections: Connections
    memberships: DatabaseMemberships
    audit: RecordedAudit
    """What was written down, unless the stage was given another audit log."""
    changes: RecordedChanges
    programs: Programs
    """What knows the API tokens that are made here."""
    relay: FakeRelay
    sessions: FakeStore
    """Who is connected: nobody, until a test says so."""
    hub: EventHub
    clock: FakeClock
    routes: list[Route]
    url: str
    http: httpx.AsyncClient
    people: dict[str, Person] = field(default_factory=dict)

    async def person(self, name: str, *, email: str | None = None, verified: bool = True, **roles: Role) -> Person:
        """Somebody new, with roles in teams."""
        made = Person(new_id("usr"), email or f"{name}@example.org", Secret(f"hp_{name}"))
        now = self.clock.wall()

        async def work(tx: AsyncConnection) -> None:
            await tx.execute(
                insert(users).values(
                    id=made.id,
                    issuer="https://id.test",
                    subject=name,
                    email=made.email,
                    email_verified=verified,
                    name=name,
                    created_at=now,
                    last_sign_in_at=now,
                )
            )
            for team, role in roles.items():
                await TeamStore().set_role(tx, TeamId(team), made.id, role, now=now, added_by=None)

        await self.database.write(work)
        self.people[made.token.reveal()] = made
        return made

    async def team(self, name: str) -> TeamId:
        """A new team, without members."""
        admin = await self.person(f"admin-of-{name}")
        answer = await self.call("POST", "/api/teams", PROGRAM, json={"id": name, "admin": admin.id})
        assert answer.status_code == 201, answer.text
        return TeamId(name)

    async def call(self, method: str, path: str, who: Person | None, **options: Any) -> httpx.Response:
        """A request in somebody's name; None for nobody's."""
        headers = dict(options.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {who.token.reveal()}"
        return await self.http.request(method, path, headers=headers, **options)

    # Authenticator

    def authenticate_nowait(self, credential: Secret, *, address: str) -> Identity | Pending | None:
        if credential.reveal() in {PROGRAM.token.reveal(), *self.people}:
            return PENDING
        return self.programs.authenticator.authenticate_nowait(credential, address=address)

    async def authenticate(self, credential: Secret, *, address: str) -> Identity | None:
        shown = credential.reveal()
        if shown == PROGRAM.token.reveal():
            everything = frozenset(Action)
            return Identity(
                kind="token", id=PROGRAM.id, name="program", teams={HOME: everything}, installation=everything
            )
        person = self.people.get(shown)
        if person is None:
            return await self.programs.authenticator.authenticate(credential, address=address)
        roles = await self.memberships.teams_of(person.id)
        return Identity(
            kind="user",
            id=person.id,
            name=person.email,
            teams={team: actions_of(role) for team, role in roles.items()},
            installation=installation_actions_of(roles, HOME),
        )


@asynccontextmanager
async def running_domains(
    database: Database,
    signer: SessionTokenSigner,
    *,
    audit: AuditLog | None = None,
    wiring: Wiring | None = None,
    api_token_max_lifetime: float = 0.0,
    more: Callable[[Domains, Database, AuditLog], Endpoints] | None = None,
    outbound: Outbound | None = None,
) -> AsyncIterator[Home]:
    """The domains over `database` and everything else that the REST API serves, until the block ends.

    Args:
        database: migrated.
        signer: of session tokens.
        audit: gets a line for each change; by default one that keeps them in memory, as `Home.audit`.
        wiring: of provider tokens; by default nobody can connect anything.
        api_token_max_lifetime: seconds, of any API token; 0 for no limit.
        more: makes what is served beside.
        outbound: reaches providers; by default there is none to reach.
    """
    clock, relay, recorded = FakeClock(), FakeRelay(), RecordedAudit()
    memberships = DatabaseMemberships(database, clock)
    log = recorded if audit is None else audit
    changes, registry = RecordedChanges(ChangeFeed(database, clock)), CollectorRegistry()
    domains = Domains(
        database=database,
        audit=log,
        accounts=DatabaseSignInStore(database, log, memberships),
        changes=changes,
        freshness=AlwaysFresh(),
        relay=relay,
        envelope=Envelope(Keyring([new_wrapping_key()])),
        outbound=outbound if outbound is not None else no_outbound(),
        signer=signer,
        clock=clock,
        limiter=Limiter(clock, LimitMetrics(CollectorRegistry())),
        registry=registry,
        tunnel_url=TUNNEL,
        public_url=lambda: "http://api.test",
        token_keys=TOKEN_KEYS,
        api_token_max_lifetime=api_token_max_lifetime,
        token_lifetime=DAY,
        token_max_lifetime=366 * DAY,
    )
    connections = connections_over(domains, clock, wiring)
    changes.feed.add(domains.broker.cache)
    await memberships.prepare(HOME)
    programs = Programs(
        database=database,
        feed=changes.feed,
        changes=changes,
        memberships=memberships,
        keys=TOKEN_KEYS,
        administration=None,
        guesses=GuessLimiter(),
        clock=clock,
        registry=registry,
    )
    await changes.feed.poll()
    hub, sessions = EventHub(metrics=EventMetrics(registry), max_followers=10), FakeStore()
    routes = rest_routes(
        nobody_signs_in(clock),
        *domains.endpoints,
        *connections.endpoints,
        *([] if more is None else [more(domains, database, log)]),
        AuditEndpoints(AuditStore(database)),
        EventEndpoints(hub),
        HealthEndpoints(Readiness(relay, database, clock), registry),
        SessionEndpoints(sessions, domains.devices, domains.journal),
    )
    home = Home(
        database=database,
        domains=domains,
        connections=connections,
        memberships=memberships,
        audit=recorded,
        changes=changes,
        programs=programs,
        relay=relay,
        sessions=sessions,
        hub=hub,
        clock=clock,
        routes=routes,
        url="",
        http=httpx.AsyncClient(verify=False),
    )
    application = RestApplication(
        authenticator=home, metrics=RestMetrics(registry), public_origin=None, max_request_bytes=65536
    )
    server = RestServer(application.build(routes))
    home.url = f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}"
    try:
        async with httpx.AsyncClient(base_url=home.url, trust_env=False, timeout=30, verify=False) as http:
            home.http = http
            yield home
    finally:
        await connections.aclose()
        hub.close()
        await server.close()
