"""The domains that live in the database, put together: people, teams, devices and their pairing, routes.

teams ──────── members, invitations, users
tokens ─────── API tokens, which go with their team or issuer
broker ─────── realms, their secrets, tokens of providers ──> the providers
devices ────── session tokens, revocations ──> the relay
routing ────── routes, upstream secrets ──> the gateways
pairing ────── pairing tokens, the device flow ──> devices
audit ──────── a line for each change of all of them, in the transaction that makes it
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.broker.broker import Broker
from api_server.changes.interfaces import ChangeLog, Freshness
from api_server.console.endpoints import ConsoleEndpoints
from api_server.custody.database import DatabaseRecordStore
from api_server.db.database import Database
from api_server.devices.book import DeviceBook
from api_server.devices.endpoints import DeviceEndpoints
from api_server.devices.interfaces import RelayRevocations
from api_server.devices.issuing import TokenIssuer
from api_server.devices.pairing.authorizations import DeviceAuthorizations
from api_server.devices.pairing.endpoints import PairingEndpoints
from api_server.devices.pairing.exchange import Enroller, PairingExchange
from api_server.devices.pairing.tokens import PairingTokenService
from api_server.devices.revocations import RevocationService
from api_server.devices.service import DeviceService
from api_server.devices.sightings import DeviceSightings
from api_server.leases.store import DatabaseLeases
from api_server.limits.endpoints import LimitEndpoints
from api_server.limits.limiter import Limiter
from api_server.limits.records import SubjectKind
from api_server.limits.service import LimitService
from api_server.limits.watch import LimitWatch
from api_server.outbound.outbound import Outbound
from api_server.provider_tokens.ending import EndedConnections
from api_server.rest import Endpoints
from api_server.routing.endpoints import RouteEndpoints
from api_server.routing.secret_endpoints import UpstreamSecretEndpoints
from api_server.routing.secrets import UpstreamSecretService
from api_server.routing.service import RouteService
from api_server.routing.store import RouteStore
from api_server.sessions.journal import DatabaseSessionJournal
from api_server.teams.endpoints import TeamEndpoints
from api_server.teams.interfaces import AccountEnder
from api_server.teams.invitations import InvitationService
from api_server.teams.service import TeamService
from api_server.teams.store import TeamStore
from api_server.tokens.endpoints import ApiTokenEndpoints
from api_server.tokens.keys import TokenKeys
from api_server.tokens.service import TokenService
from api_server.tokens.store import TokenStore
from api_server.usage.endpoints import UsageEndpoints, UsageService
from api_server.webhooks.changes import OutboxedChanges
from api_server.webhooks.collector import EventCollector
from api_server.webhooks.courier import Courier
from api_server.webhooks.endpoints import WebhookEndpoints
from api_server.webhooks.metrics import WebhookMetrics
from api_server.webhooks.sealing import WebhookSecrets
from api_server.webhooks.service import WebhookService
from common.clock import Clock
from common.crypto.envelope import Envelope
from common.crypto.session_tokens import SessionTokenSigner
from common.guesses import GuessLimiter
from common.ids import TeamId

__all__ = ["Domains"]


class Domains:
    """Services and endpoints over one database.

    Args:
        database: open.
        audit: gets a line for each change.
        accounts: ends what a user has open.
        changes: tells every process what is changed.
        relay: enforces revocations.
        freshness: whether what this process remembers may be trusted.
        envelope: seals what is secret and stored.
        outbound: reaches what users name.
        signer: of session tokens.
        clock: of both kinds.
        limiter: in which the limits hold that are set.
        registry: shows what the domains count.
        tunnel_url: that devices dial.
        public_url: tells the origin of the API as people see it; asked once it listens.
        token_keys: that API tokens are hashed with.
        api_token_max_lifetime: seconds, of any API token; 0 for no limit.
        token_lifetime: seconds, of a session token for which none is asked.
        token_max_lifetime: seconds, of any.
        broker_concurrency: most calls of the broker to one provider of a team at a time.
        broker_rate: most of them a second.
    """

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        accounts: AccountEnder,
        changes: ChangeLog,
        freshness: Freshness,
        relay: RelayRevocations,
        envelope: Envelope,
        outbound: Outbound,
        signer: SessionTokenSigner,
        clock: Clock,
        limiter: Limiter,
        registry: CollectorRegistry,
        tunnel_url: str,
        public_url: Callable[[], str],
        token_keys: TokenKeys,
        api_token_max_lifetime: float,
        token_lifetime: float,
        token_max_lifetime: float,
        broker_concurrency: int = 8,
        broker_rate: float = 20.0,
    ) -> None:
        self.database = database
        self.audit = audit
        secrets, metrics = WebhookSecrets(envelope), WebhookMetrics(registry)
        changes = OutboxedChanges(changes, clock, lambda: self.courier.wake())
        self.courier = Courier(
            database=database,
            audit=audit,
            changes=changes,
            sender=outbound.http,
            secrets=secrets,
            metrics=metrics,
            clock=clock,
        )
        """Delivers webhooks."""
        self.collector = EventCollector(database, metrics, clock, changes, self.courier.wake)
        """Gathers the events for them that no transaction makes."""
        limiter.on_reached(self.collector.limit_reached)
        webhooks = WebhookService(
            database=database, audit=audit, changes=changes, secrets=secrets, policy=outbound.policy, clock=clock
        )
        self.envelope = envelope
        """What every domain seals with."""
        self.records = DatabaseRecordStore(database, clock)
        """Sealed records of users in the database; `custody.composition` says whether that is enough."""
        self.changes = changes
        """Where every domain says what it changes."""
        self.limits = LimitService(
            database,
            audit,
            changes,
            clock,
            TeamStore().get,
            {SubjectKind.ROUTE: _route_id, SubjectKind.TOKEN: _token_id},
        )
        self.limit_watch = LimitWatch(self.limits, limiter)
        usage = UsageService(database, clock)
        book = DeviceBook()
        self.routes = RouteService(
            database=database, audit=audit, changes=changes, devices=book, urls=outbound.policy, clock=clock
        )
        self.upstream_secrets = UpstreamSecretService(
            database=database,
            audit=audit,
            changes=changes,
            devices=book,
            urls=outbound.policy,
            envelope=envelope,
            clock=clock,
        )
        self.tokens = TokenService(database, audit, changes, token_keys, clock, max_lifetime=api_token_max_lifetime)
        self.leases = DatabaseLeases(database, clock)
        """What one process at a time may do."""
        self.broker = Broker(
            database=database,
            audit=audit,
            changes=changes,
            freshness=freshness,
            leases=self.leases,
            envelope=envelope,
            outbound=outbound,
            clock=clock,
            registry=registry,
            concurrency=broker_concurrency,
            rate=broker_rate,
        )
        connections = EndedConnections(self.records)
        self.teams = TeamService(
            database,
            audit,
            accounts,
            changes,
            clock,
            team_enders=(self.tokens, self.limits, usage, self.routes, webhooks, connections, self.broker.realms),
            user_enders=(self.tokens,),
        )
        self.invitations = InvitationService(database, audit, changes, clock)
        self.revocations = RevocationService(database, relay, clock=clock)
        issuer = TokenIssuer(
            signer, clock, tunnel_url=tunnel_url, lifetime=token_lifetime, max_lifetime=token_max_lifetime
        )
        self.devices = DeviceService(
            database=database,
            audit=audit,
            changes=changes,
            issuer=issuer,
            revocations=self.revocations,
            clock=clock,
        )
        enroller = Enroller(issuer, clock)
        self.sightings = DeviceSightings(database)
        self.journal = DatabaseSessionJournal(database, audit)
        self.endpoints: tuple[Endpoints, ...] = (
            ConsoleEndpoints(),
            TeamEndpoints(self.teams, self.invitations),
            DeviceEndpoints(self.devices),
            *self.broker.endpoints,
            LimitEndpoints(self.limits, limiter),
            UsageEndpoints(usage),
            RouteEndpoints(self.routes),
            UpstreamSecretEndpoints(self.upstream_secrets),
            ApiTokenEndpoints(self.tokens),
            WebhookEndpoints(webhooks),
            PairingEndpoints(
                PairingTokenService(database, audit, clock),
                PairingExchange(database, audit, enroller, GuessLimiter(), clock),
                DeviceAuthorizations(database, audit, enroller, GuessLimiter(), clock),
                clock,
                public_url=public_url,
            ),
        )
        """What they serve."""


async def _token_id(tx: AsyncConnection, team: TeamId, token: str) -> str | None:
    """The id of an API token."""
    found = await TokenStore().get(tx, team, token)
    return None if found is None else found.id


async def _route_id(tx: AsyncConnection, team: TeamId, route: str) -> str | None:
    """The id of a route, by id or name."""
    found = await RouteStore().find(tx, team, route)
    return None if found is None else found.id
