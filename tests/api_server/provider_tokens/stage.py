"""Provider tokens over the domains of a test: nobody can connect anything, unless the test says what there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from api_server.auth.signin.cookie_keys import CookieKeys, new_cookie_key
from api_server.connections import Connections
from api_server.custody.interfaces import RecordStore
from api_server.domains import Domains
from api_server.leases.store import DatabaseLeases
from api_server.provider_tokens.metrics import ProviderTokenMetrics
from api_server.provider_tokens.pace import Pace
from api_server.provider_tokens.people import PeopleBehind
from api_server.provider_tokens.providers.client import ProviderClient
from api_server.provider_tokens.settings import ProviderSettings
from common.clock import Clock

__all__ = ["BASE", "Wiring", "connections_over"]

BASE = "https://home.test"
"""Where browsers see the API."""


@dataclass
class Wiring:
    """What a test sets."""

    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    http: Any = None
    """An `OutboundHttp`."""
    pace: Pace = field(default_factory=lambda: Pace(burst=60, interval=1))
    people: PeopleBehind | None = None
    sign_in: ProviderClient | None = None
    secure: bool = True
    provider_timeout: float = 10.0
    records: Callable[[Domains], RecordStore] = lambda domains: domains.records


def connections_over(domains: Domains, clock: Clock, wiring: Wiring | None = None) -> Connections:
    """`/api/provider-tokens` and what goes with it."""
    wiring = wiring if wiring is not None else Wiring()
    return Connections(
        wiring.providers,
        wiring.http,
        clock,
        database=domains.database,
        records=wiring.records(domains),
        leases=DatabaseLeases(domains.database, clock),
        envelope=domains.envelope,
        audit=domains.audit,
        changes=domains.changes,
        cookie_keys=CookieKeys(new_cookie_key()),
        secure=wiring.secure,
        base_url=lambda: BASE,
        pace=wiring.pace,
        metrics=ProviderTokenMetrics(CollectorRegistry()),
        people=wiring.people,
        sign_in=wiring.sign_in,
        provider_timeout=wiring.provider_timeout,
    )
