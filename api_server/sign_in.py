"""Sign-in, put together from its parts: part of the composition root, which `server` is.

                     ┌── SignInEndpoints ── SignInService ── RelyingParty ── the provider
cookies ── SessionAuthenticator ──┐               │
                                  └── DatabaseSignInStore ── Database
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from api_server.audit.interfaces import AuditLog
from api_server.auth.oidc import Client, HttpxFetcher, RelyingParty, ServiceClient
from api_server.auth.signin.authenticator import SessionAuthenticator
from api_server.auth.signin.cookie_keys import CookieKeys, new_cookie_key
from api_server.auth.signin.cookies import Cookies
from api_server.auth.signin.endpoints import SignInEndpoints
from api_server.auth.signin.gateway import GatewaySignIn
from api_server.auth.signin.service import CALLBACK_PATH, SignInService
from api_server.auth.signin.store import DatabaseSignInStore
from api_server.db.database import Database
from api_server.http.origins import origin_of
from api_server.provider_tokens.grants.records import OFFLINE_PROVIDER
from api_server.provider_tokens.providers.client import ProviderClient
from api_server.provider_tokens.providers.sending import FetcherHttp
from api_server.provider_tokens.settings import ProviderKind, ProviderSettings
from api_server.settings import ApiSettings
from api_server.teams.memberships import DatabaseMemberships
from common.clock import Clock
from common.ids import TeamId
from common.logging import get_logger
from common.settings import Problem, SettingsError

__all__ = ["SignIn"]


class SignIn:
    """Everything about people who sign in.

    Args:
        settings: of the API server.
        database: where users and sessions are kept.
        audit: gets a line for each change.
        clock: source of time.
        base_url: gives the URL of the REST API once it listens; used where `public_url` is not set.
        gateway_url: gives the URL of the gateway once it listens; used where the setting of that name is not set.

    Raises:
        KeyFileError: the cookie keys cannot be used.
        SettingsError: a certificate cannot be used.
    """

    def __init__(
        self,
        settings: ApiSettings,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        *,
        base_url: Callable[[], str],
        gateway_url: Callable[[], str],
    ) -> None:
        public = None if settings.public_url is None else origin_of(settings.public_url)
        self._settings = settings
        self._clock = clock
        self._team = TeamId(settings.team)
        self.memberships = DatabaseMemberships(database, clock)
        self.store = DatabaseSignInStore(database, audit, self.memberships)
        # Without a provider there is nobody to give a cookie to: these keys sign nothing.
        keys = CookieKeys(new_cookie_key())
        if settings.oidc_issuer is not None and (file := settings.cookie_keys()) is not None:
            keys = CookieKeys.from_file(file)
        cookies = Cookies(keys, secure=public is not None and public.startswith("https:"), callback_path=CALLBACK_PATH)
        self.cookie_keys = keys
        self.sessions = SessionAuthenticator(self.store, cookies, self.memberships, clock)
        self.at_gateway = settings.oidc_issuer is not None and settings.gateway_sign_in != "off"
        """Whether people's browsers are signed in on pages of the gateway."""
        shown = settings.gateway_url
        self.gateway = GatewaySignIn(
            configured=self.at_gateway,
            keys=keys,
            store=self.store,
            sessions=self.sessions,
            clock=clock,
            console=base_url if public is None else lambda: public,
            gateway=gateway_url if shown is None else lambda: shown,
            fixed=shown is not None,
            domain=settings.gateway_domain,
            own_hosts=settings.gateway_sign_in == "own_hosts",
        )
        """Of people's browsers, on pages that the gateway serves."""
        self._party = _relying_party(settings, clock)
        self.service_client = _service_client(settings, self._party, clock)
        """Tokens of the provider for the API itself; None where there is no provider, or no secret to ask with."""
        self.service = SignInService(
            self._party,
            self.store,
            cookies,
            self.sessions,
            clock,
            base_url=base_url if public is None else lambda: public,
            fixed_base_url=public is not None,
            idle=settings.session_idle,
            lifetime=settings.session_lifetime,
        )
        self.endpoints = SignInEndpoints(self.service, cookies, self.sessions, self.memberships, self.memberships)
        # One without TLS is on this machine, for development, and has no secrets to give.
        if (settings.oidc_issuer or "").startswith("https:") and settings.oidc_client_secret is None:
            get_logger(__name__).warning(
                "Homeport is a public client of the identity provider, whose one proof is PKCE; prefer a secret",
                issuer=settings.oidc_issuer,
                client_id=settings.oidc_client_id,
            )

    def offline_provider(self) -> ProviderClient | None:
        """The provider as the one that offline tokens are refreshed and revoked at; None where none is asked for."""
        settings = self._settings
        if settings.oidc_issuer is None or not settings.oidc_offline_access:
            return None
        provider = ProviderSettings(
            kind=ProviderKind.OIDC,
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret,
            url=settings.oidc_issuer,
        )
        http = FetcherHttp(HttpxFetcher(settings.oidc_issuer, tls=_tls(settings)))
        return ProviderClient(OFFLINE_PROVIDER, provider, http=http, clock=self._clock)

    async def prepare(self) -> None:
        """Have the first team, before anybody can sign in.

        Raises:
            DatabaseError: it cannot be made.
        """
        await self.memberships.prepare(self._team)

    async def aclose(self) -> None:
        """Let go of connections to the provider."""
        if self._party is not None:
            await self._party.aclose()
        if self.service_client is not None:
            await self.service_client.aclose()


def _relying_party(settings: ApiSettings, clock: Clock) -> RelyingParty | None:
    if settings.oidc_issuer is None:
        return None
    return RelyingParty(
        settings.oidc_issuer,
        Client(settings.oidc_client_id, settings.oidc_client_secret),
        scopes=settings.oidc_scopes,
        fetcher=HttpxFetcher(settings.oidc_issuer, tls=_tls(settings)),
        clock=clock,
        offline=settings.oidc_offline_access,
    )


def _service_client(settings: ApiSettings, party: RelyingParty | None, clock: Clock) -> ServiceClient | None:
    client = Client(settings.oidc_client_id, settings.oidc_client_secret)
    if settings.oidc_service_client_id is not None:
        client = Client(settings.oidc_service_client_id, settings.oidc_service_client_secret)
    if party is None or client.secret is None:
        return None
    fetcher = HttpxFetcher(party.issuer, tls=_tls(settings))
    return ServiceClient(party.provider, client, fetcher=fetcher, clock=clock)


def _tls(settings: ApiSettings) -> ssl.SSLContext | None:
    if settings.oidc_ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=settings.oidc_ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError([Problem("oidc_ca_file", f"unusable: {exc}")]) from exc
