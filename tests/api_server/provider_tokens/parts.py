"""What refreshes a grant, without an API around it: for tests of stores and of crashes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.interfaces import Change
from api_server.custody.database import DatabaseRecordStore
from api_server.custody.interfaces import RecordStore
from api_server.db.database import Database
from api_server.leases.store import DatabaseLeases
from api_server.outbound.http import OutboundHttp
from api_server.outbound.policy import TargetPolicy
from api_server.outbound.resolver import Resolver
from api_server.provider_tokens.grants.attempts import Attempts
from api_server.provider_tokens.grants.obituaries import change_of
from api_server.provider_tokens.grants.records import GrantKey
from api_server.provider_tokens.grants.refresher import Refresher
from api_server.provider_tokens.grants.store import GrantRecords
from api_server.provider_tokens.grants.tokens import TokenManager
from api_server.provider_tokens.metrics import ProviderTokenMetrics
from api_server.provider_tokens.providers.catalogue import Providers
from api_server.provider_tokens.providers.outbound_http import OutboundProviderHttp
from api_server.provider_tokens.settings import ProviderSettings
from common.clock import Clock
from common.crypto.envelope import Envelope
from common.ids import TeamId

__all__ = ["KEY", "OTHER", "Parts", "loopback_http", "parts_over"]

KEY = GrantKey(TeamId("home"), "usr_" + "1" * 32, "gitlab")
OTHER = GrantKey(TeamId("home"), "usr_" + "2" * 32, "gitlab")


class Mourned:
    """Remembers who has died."""

    def __init__(self) -> None:
        self.told: list[Change] = []

    async def record(self, tx: AsyncConnection, key: GrantKey, reason: str) -> Change:
        return change_of(key, "provider_token.needs_reconnect", reason=reason)

    async def announce(self, change: Change) -> None:
        self.told.append(change)


@dataclass
class Parts:
    """All of it."""

    store: RecordStore
    records: GrantRecords
    attempts: Attempts
    refresher: Refresher
    tokens: TokenManager
    mourned: Mourned


def loopback_http() -> OutboundHttp:
    """Requests that may go to this machine."""
    policy = TargetPolicy(["127.0.0.0/8"])
    return OutboundHttp(policy, Resolver(policy), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def parts_over(
    database: Database,
    envelope: Envelope,
    clock: Clock,
    provider_url: str,
    http: OutboundHttp,
    *,
    store: RecordStore | None = None,
    attempts: Any = None,
    wrap: Any = None,
) -> Parts:
    """The parts.

    Args:
        database: migrated.
        envelope: seals.
        clock: of both kinds.
        provider_url: of a GitLab.
        http: sends requests.
        store: of records, in place of the usual one.
        attempts: class in place of the usual one.
        wrap: put around the provider's client.
    """
    store = store if store is not None else DatabaseRecordStore(database, clock)
    leases = DatabaseLeases(database, clock)
    records = GrantRecords(store, envelope, clock)
    marks = (attempts or Attempts)(database, envelope, leases, clock)
    settings = {"gitlab": ProviderSettings(client_id="app", url=provider_url)}
    providers = Providers(settings, http=OutboundProviderHttp(http), clock=clock)

    def source(key: GrantKey) -> Any:
        client = providers.get(key.provider)
        return client if wrap is None else wrap(client)

    mourned = Mourned()
    refresher = Refresher(records, marks, leases, source, mourned, clock, ProviderTokenMetrics(CollectorRegistry()))
    tokens = TokenManager(records, marks, leases, refresher, source, clock)
    return Parts(store, records, marks, refresher, tokens, mourned)
