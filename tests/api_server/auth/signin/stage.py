"""People who sign in: an API that listens, a provider that a test can make lie, and browsers without a screen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from api_server.auth.browsers import Places
from api_server.auth.oidc import Client, RelyingParty
from api_server.auth.signin.authenticator import SessionAuthenticator
from api_server.auth.signin.cookie_keys import CookieKeys, new_cookie_key
from api_server.auth.signin.cookies import Cookies
from api_server.auth.signin.endpoints import SignInEndpoints
from api_server.auth.signin.gateway import GatewaySignIn
from api_server.auth.signin.gateway_endpoints import GatewaySignInEndpoints
from api_server.auth.signin.service import CALLBACK_PATH, SignInService
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import TeamId
from tests.api_server.auth.oidc.provider import CLIENT, NOW, FakeProvider
from tests.api_server.auth.signin.memory import FakeTeams, MemorySignInStore
from tests.api_server.fakes import FakeClock
from tests.api_server.rest import Api, running_api

__all__ = ["CSRF", "FORM", "Browser", "Stage", "staged"]

CSRF = {"X-Homeport-CSRF": "1"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class Browser:
    """Keeps cookies, follows no redirect by itself."""

    http: httpx.AsyncClient
    provider: FakeProvider

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(path, **options)

    async def begin(self, return_to: str | None = None) -> str:
        """Where the login sends it."""
        query = "" if return_to is None else "?" + urlencode({"return_to": return_to})
        answer = await self.get("/api/auth/login" + query)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    async def come_back(self, answer: dict[str, str], **options: Any) -> httpx.Response:
        """The provider sends it back."""
        return await self.get(f"{CALLBACK_PATH}?{urlencode(answer)}", **options)

    async def sign_in(self, return_to: str | None = None, **changes: str) -> httpx.Response:
        """The whole way; the answer of the callback."""
        return await self.come_back(self.provider.authorize(await self.begin(return_to), **changes))

    async def me(self) -> dict[str, Any]:
        answer = await self.get("/api/auth/me")
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    async def is_signed_in(self) -> bool:
        return (await self.get("/api/auth/me")).status_code == 200

    def cookie(self, name: str) -> str | None:
        """The value of the one cookie whose name begins so."""
        found = [cookie.value for cookie in self.http.cookies.jar if cookie.name.startswith(name)]
        assert len(found) <= 1, found
        return found[0] if found else None

    def transactions(self) -> list[str]:
        """Names of the sign-ins that it has under way."""
        return [cookie.name for cookie in self.http.cookies.jar if "homeport_signin_" in cookie.name]


@dataclass
class Stage:
    """Everything, and the knobs."""

    api: Api
    provider: FakeProvider
    store: MemorySignInStore
    teams: FakeTeams
    cookies: Cookies
    sessions: SessionAuthenticator
    service: SignInService
    clock: FakeClock
    gateway: GatewaySignIn
    """Signs in on pages of the gateway."""
    exit: AsyncExitStack = field(repr=False)

    async def browser(self) -> Browser:
        http = await self.exit.enter_async_context(
            httpx.AsyncClient(base_url=self.api.url, trust_env=False, timeout=20, verify=False)
        )
        return Browser(http, self.provider)

    async def log_out(self, token: str) -> httpx.Response:
        """The provider speaks by the back channel."""
        return await self.api.http.post("/api/auth/backchannel-logout", data={"logout_token": token})


@asynccontextmanager
async def staged(
    signer: SessionTokenSigner,
    *,
    configured: bool = True,
    secure: bool = False,
    idle: float = 3600,
    lifetime: float = 86400,
    keys: CookieKeys | None = None,
    places: Places | None = None,
    gateway: Callable[[], str] = lambda: "http://gateway.test",
) -> AsyncIterator[Stage]:
    """The stage, for as long as the block runs; with `places` people can sign in at a gateway, too."""
    clock, provider, store = FakeClock(NOW), FakeProvider(), MemorySignInStore()
    teams = FakeTeams({TeamId("home"): Role.DEVELOPER})
    keys = keys if keys is not None else CookieKeys(new_cookie_key())
    cookies = Cookies(keys, secure=secure, callback_path=CALLBACK_PATH)
    sessions = SessionAuthenticator(store, cookies, teams, clock)
    party = RelyingParty(provider.issuer, Client(CLIENT), scopes=("email",), fetcher=provider, clock=clock)
    here: list[str] = []
    service = SignInService(
        party if configured else None,
        store,
        cookies,
        sessions,
        clock,
        base_url=lambda: here[0],
        fixed_base_url=False,
        idle=idle,
        lifetime=lifetime,
    )
    endpoints = SignInEndpoints(service, cookies, sessions, teams, teams)
    at_gateway = GatewaySignIn(
        configured=configured,
        keys=keys,
        store=store,
        sessions=sessions,
        clock=clock,
        console=lambda: here[0],
        gateway=gateway,
        fixed=False,
        domain=None,
    )
    pages = None if places is None else GatewaySignInEndpoints(at_gateway, places)
    async with (
        AsyncExitStack() as exit_stack,
        running_api(signer, sign_in=endpoints, sessions=sessions, pages=pages) as api,
    ):
        here.append(api.url)
        async with exit_stack:
            yield Stage(api, provider, store, teams, cookies, sessions, service, clock, at_gateway, exit_stack)


def parameters(url: str) -> dict[str, str]:
    """The query of a URL."""
    return dict(httpx.QueryParams(urlsplit(url).query))
