"""An installation without an identity provider, for tests of everything else."""

from __future__ import annotations

from api_server.auth.signin.authenticator import SessionAuthenticator
from api_server.auth.signin.cookie_keys import CookieKeys, new_cookie_key
from api_server.auth.signin.cookies import Cookies
from api_server.auth.signin.endpoints import SignInEndpoints
from api_server.auth.signin.gateway import GatewaySignIn
from api_server.auth.signin.gateway_endpoints import GatewaySignInEndpoints
from api_server.auth.signin.service import CALLBACK_PATH, SignInService
from common.clock import Clock
from tests.api_server.auth.signin.memory import FakeTeams, MemorySignInStore

__all__ = ["nobody_opens_pages", "nobody_signs_in"]


def nobody_signs_in(clock: Clock) -> SignInEndpoints:
    """`/api/auth` while `oidc_issuer` is not set."""
    store, teams = MemorySignInStore(), FakeTeams()
    cookies = Cookies(CookieKeys(new_cookie_key()), secure=False, callback_path=CALLBACK_PATH)
    sessions = SessionAuthenticator(store, cookies, teams, clock)
    service = SignInService(
        None,
        store,
        cookies,
        sessions,
        clock,
        base_url=lambda: "http://127.0.0.1:1",
        fixed_base_url=False,
        idle=3600,
        lifetime=86400,
    )
    return SignInEndpoints(service, cookies, sessions, teams, teams)


def nobody_opens_pages(clock: Clock) -> GatewaySignInEndpoints:
    """`/api/auth/gateway` while `oidc_issuer` is not set, of a gateway that serves nothing."""
    store = MemorySignInStore()
    keys = CookieKeys(new_cookie_key())
    cookies = Cookies(keys, secure=False, callback_path=CALLBACK_PATH)
    sign_in = GatewaySignIn(
        configured=False,
        keys=keys,
        store=store,
        sessions=SessionAuthenticator(store, cookies, FakeTeams(), clock),
        clock=clock,
        console=lambda: "http://127.0.0.1:1",
        gateway=lambda: "http://127.0.0.1:2",
        fixed=False,
        domain=None,
    )
    return GatewaySignInEndpoints(sign_in, _NoPlaces())


class _NoPlaces:
    """A gateway that serves nothing."""

    def find(self, host: str, path: str) -> None:
        return None
