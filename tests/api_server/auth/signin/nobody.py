"""An installation without an identity provider, for tests of everything else."""

from __future__ import annotations

from api_server.auth.signin.authenticator import SessionAuthenticator
from api_server.auth.signin.cookie_keys import CookieKeys, new_cookie_key
from api_server.auth.signin.cookies import Cookies
from api_server.auth.signin.endpoints import SignInEndpoints
from api_server.auth.signin.service import CALLBACK_PATH, SignInService
from common.clock import Clock
from tests.api_server.auth.signin.memory import FakeTeams, MemorySignInStore

__all__ = ["nobody_signs_in"]


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
