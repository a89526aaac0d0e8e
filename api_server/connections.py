"""What people have connected at other providers, put together: part of the composition root, which `server` is.

browsers ── ConnectService ──┐                                        ┌── RecordStore (custody)
programs ── GrantService ────┴── TokenManager ── Refresher ── Attempts┴── Database, Leases
                                      └── Providers ── Outbound ──> GitHub, GitLab, Bitbucket, OpenID providers
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from api_server.audit.interfaces import AuditLog
from api_server.auth.interfaces import Identity
from api_server.auth.signin.cookie_keys import CookieKeys
from api_server.changes.interfaces import ChangeLog
from api_server.custody.interfaces import RecordStore
from api_server.db.database import Database
from api_server.leases.interfaces import Leases
from api_server.outbound.http import OutboundHttp
from api_server.provider_tokens.connect.cookies import ConnectCookies
from api_server.provider_tokens.connect.service import ConnectService
from api_server.provider_tokens.endpoints import ProviderEndpoints
from api_server.provider_tokens.errors import ProviderNotFoundError
from api_server.provider_tokens.grants.attempts import Attempts
from api_server.provider_tokens.grants.obituaries import Obituaries
from api_server.provider_tokens.grants.records import GrantKey, GrantKind
from api_server.provider_tokens.grants.refresher import Refresher
from api_server.provider_tokens.grants.store import GrantRecords
from api_server.provider_tokens.grants.tokens import TokenManager
from api_server.provider_tokens.metrics import ProviderTokenMetrics
from api_server.provider_tokens.offline import OfflineKeeper
from api_server.provider_tokens.pace import Pace
from api_server.provider_tokens.people import PeopleBehind
from api_server.provider_tokens.providers.catalogue import Providers
from api_server.provider_tokens.providers.client import ProviderClient
from api_server.provider_tokens.providers.outbound_http import PROVIDER_TIMEOUT, OutboundProviderHttp
from api_server.provider_tokens.service import GrantService
from api_server.provider_tokens.settings import ProviderSettings
from api_server.rest import Endpoints
from api_server.tokens.store import TokenStore
from common.clock import Clock
from common.crypto.envelope import Envelope

__all__ = ["Connections", "Issuers"]


class Issuers:
    """Implements `PeopleBehind` by the issuers of API tokens: the person who made a token is behind it, and behind the
    tokens that it made.

    Args:
        database: of the tokens.
        clock: wall time.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._tokens = TokenStore()

    async def user_behind(self, identity: Identity) -> str | None:
        if identity.kind != "token":
            return None
        now = self._clock.wall()
        found = await self._database.read(lambda tx: self._tokens.issuer_of(tx, identity.id, now))
        return found[0].id if found is not None and found[0].kind == "user" else None


class Connections:
    """Everything about provider tokens.

    Args:
        settings: of the providers, by name.
        outbound: sends requests to them.
        clock: of both kinds.
        database: where marks of refreshes are, and what counts once.
        records: where grants are kept.
        leases: one refresh at a time.
        envelope: seals.
        audit: gets a line for each change and each hand-out.
        changes: tells everybody.
        cookie_keys: of connections under way.
        secure: whether browsers come by TLS.
        base_url: gives the origin of the REST API as browsers see it.
        pace: how often one caller is handed a token.
        metrics: counts.
        people: who is behind a program; by default whoever issued its token.
        sign_in: the provider of sign-in, for offline tokens; None where nobody has one.
        provider_timeout: seconds for a whole exchange with a provider.
    """

    def __init__(
        self,
        settings: Mapping[str, ProviderSettings],
        outbound: OutboundHttp,
        clock: Clock,
        *,
        database: Database,
        records: RecordStore,
        leases: Leases,
        envelope: Envelope,
        audit: AuditLog,
        changes: ChangeLog,
        cookie_keys: CookieKeys,
        secure: bool,
        base_url: Callable[[], str],
        pace: Pace,
        metrics: ProviderTokenMetrics,
        people: PeopleBehind | None = None,
        sign_in: ProviderClient | None = None,
        provider_timeout: float = PROVIDER_TIMEOUT,
    ) -> None:
        providers = Providers(settings, http=OutboundProviderHttp(outbound, timeout=provider_timeout), clock=clock)

        def source(key: GrantKey) -> ProviderClient:
            if key.kind is GrantKind.PROVIDER_TOKEN:
                return providers.get(key.provider)
            if sign_in is None:
                raise ProviderNotFoundError("the provider of sign-in is not asked for offline tokens any more")
            return sign_in

        grants = GrantRecords(records, envelope, clock)
        attempts = Attempts(database, envelope, leases, clock)
        self.refresher = Refresher(grants, attempts, leases, source, Obituaries(audit, changes), clock, metrics)
        self.tokens = TokenManager(grants, attempts, leases, self.refresher, source, clock)
        self.offline = OfflineKeeper(self.tokens, audit)
        """Where sign-in has offline tokens kept."""
        self._sign_in = sign_in
        connect = ConnectService(
            providers,
            self.tokens,
            ConnectCookies(cookie_keys, secure=secure),
            database,
            audit,
            changes,
            clock,
            base_url=base_url,
        )
        service = GrantService(
            providers,
            self.tokens,
            records,
            grants,
            attempts,
            envelope,
            people if people is not None else Issuers(database, clock),
            database,
            audit,
            changes,
            pace,
            metrics,
            clock,
        )
        self.endpoints: tuple[Endpoints, ...] = (ProviderEndpoints(providers, connect, service),)
        """What they serve."""

    async def aclose(self) -> None:
        """Wait for the refreshes that are under way: their answers are the only ones that there will be."""
        await self.refresher.aclose()
        if self._sign_in is not None:
            await self._sign_in.aclose()
