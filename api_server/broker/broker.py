"""The broker, as the composition root makes it."""

from __future__ import annotations

from prometheus_client.registry import CollectorRegistry

from api_server.audit.interfaces import AuditLog
from api_server.broker.cache import TokenCache
from api_server.broker.endpoints import BrokerEndpoints
from api_server.broker.metrics import BrokerMetrics
from api_server.broker.providers import Providers
from api_server.broker.realms import RealmService
from api_server.broker.refresher import LEASE, Refresher
from api_server.broker.seals import Seals
from api_server.broker.token_endpoints import TokenEndpoints
from api_server.broker.tokens import TokenBroker
from api_server.changes.interfaces import ChangeLog, Freshness
from api_server.db.database import Database
from api_server.leases.interfaces import Leases
from api_server.outbound.outbound import Outbound
from common.clock import Clock
from common.crypto.envelope import Envelope

__all__ = ["Broker"]


class Broker:
    """Realms, secrets and tokens. Close it.

    Args:
        database: open.
        audit: gets a line for each change.
        changes: told of each change.
        freshness: whether the memory may be trusted.
        leases: of the same database.
        envelope: seals secrets and tokens.
        outbound: reaches providers.
        clock: of both kinds.
        registry: shows what is counted.
        concurrency: most calls to one provider of a team at a time.
        rate: most of them a second.
        lease: seconds that others wait when a process dies that fetches.
    """

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        changes: ChangeLog,
        freshness: Freshness,
        leases: Leases,
        envelope: Envelope,
        outbound: Outbound,
        clock: Clock,
        registry: CollectorRegistry,
        concurrency: int = 8,
        rate: float = 20.0,
        lease: float = LEASE,
    ) -> None:
        seals = Seals(envelope)
        providers = Providers(outbound.http, clock, concurrency=concurrency, rate=rate)
        metrics = BrokerMetrics(registry, providers.breakers)
        self.cache = TokenCache(freshness)
        """To be told of changes."""
        refresher = Refresher(
            database=database,
            leases=leases,
            changes=changes,
            seals=seals,
            providers=providers,
            cache=self.cache,
            metrics=metrics,
            clock=clock,
            lease=lease,
        )
        self.tokens = TokenBroker(
            database=database,
            refresher=refresher,
            cache=self.cache,
            seals=seals,
            changes=changes,
            audit=audit,
            metrics=metrics,
            clock=clock,
        )
        self.realms = RealmService(
            database=database,
            audit=audit,
            changes=changes,
            leases=leases,
            seals=seals,
            policy=outbound.policy,
            clock=clock,
        )
        self.endpoints = (BrokerEndpoints(self.realms, clock), TokenEndpoints(self.tokens, clock))
        """What it serves."""

    async def aclose(self) -> None:
        """Let what providers have given be kept."""
        await self.tokens.aclose()
