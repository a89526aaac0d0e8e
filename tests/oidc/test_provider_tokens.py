"""Provider tokens at a provider that others have certified: offline_access, rotation, the end of a grant whose refresh
token is shown twice, and revocation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from api_server.auth.oidc import Client, HttpxFetcher, RelyingParty
from api_server.auth.signin.interfaces import UserRecord, Visit
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.provider_tokens.grants.records import GrantKey
from api_server.provider_tokens.providers.client import ProviderClient
from api_server.provider_tokens.providers.sending import FetcherHttp
from api_server.provider_tokens.settings import ProviderKind, ProviderSettings
from api_server.teams.roles import Role
from common.clock import SystemClock
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import TeamId
from common.secret import Secret
from tests.api_server.people import Home, Person, running_domains
from tests.api_server.provider_tokens.flow import PATH, Browser
from tests.api_server.provider_tokens.parts import loopback_http
from tests.api_server.provider_tokens.stage import BASE, Wiring
from tests.databases.fixtures import FreshDatabase
from tests.oidc.test_sign_in import TLS, browser, follow

pytestmark = pytest.mark.anyio

CALLBACK = f"{BASE}{PATH}/sso/callback"
SIGN_IN_CALLBACK = f"{BASE}/api/auth/callback"
CLIENT = Client("homeport-offline", Secret("the-secret-of-the-offline-client-0"))
LIFE = 60
"""Seconds that the provider's access tokens live."""


async def configure(issuer: str) -> None:
    """Make the provider know our client."""
    assert CLIENT.secret is not None
    entry: dict[str, Any] = {
        "client_id": CLIENT.id,
        "client_secret": CLIENT.secret.reveal(),
        "redirect_uris": [CALLBACK, SIGN_IN_CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    }
    async with httpx.AsyncClient(trust_env=False, timeout=60, verify=False) as http:
        assert (await http.put(issuer + "/control", json=[entry])).status_code == 204


def openid(issuer: str) -> ProviderSettings:
    return ProviderSettings(
        kind=ProviderKind.OIDC,
        client_id=CLIENT.id,
        client_secret=CLIENT.secret,
        url=issuer,
        scopes=("openid", "email", "offline_access"),
    )


@asynccontextmanager
async def staged(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, issuer: str, sign_in: ProviderClient | None = None
) -> AsyncIterator[Home]:
    await configure(issuer)
    http = loopback_http()
    wiring = Wiring(providers={"sso": openid(issuer)}, http=http, sign_in=sign_in)
    try:
        with fresh_database(Kind.SQLITE) as url:
            async with Database.connect(url) as database, running_domains(database, signer, wiring=wiring) as home:
                home.clock.wall_now = SystemClock().wall()
                yield home
    finally:
        await http.aclose()


async def consent(url: str, until: str) -> dict[str, str]:
    """Sign in at the provider, and agree; what it sends the browser back with."""
    async with browser() as http:
        return dict(parse_qsl(urlsplit(await follow(http, await http.get(url), until)).query))


async def connect(home: Home, person: Person) -> None:
    here = Browser(home, person)
    begun = await here.get(f"{PATH}/sso/connect")
    assert begun.status_code == 303, begun.text
    brought = await consent(begun.headers["Location"], CALLBACK)
    answer = await here.get(f"{PATH}/sso/callback?{httpx.QueryParams(brought)}")
    assert answer.status_code == 303, answer.text


async def token(home: Home, person: Person) -> str:
    answer = await home.call("POST", f"{PATH}/sso/access-token", person)
    assert answer.status_code == 200, answer.text
    given: str = answer.json()["access_token"]
    return given


async def test_connect_refresh_and_disconnect(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, issuer: str
) -> None:
    async with staged(fresh_database, signer, issuer) as home:
        ann = await home.person("ann", home=Role.DEVELOPER)
        await connect(home, ann)
        shown = (await home.call("GET", f"{PATH}/sso", ann)).json()
        assert (shown["account"], shown["state"], shown["refreshable"]) == ("ada", "active", True)
        assert shown["scopes"] == ["openid", "email", "offline_access"]
        seen = {await token(home, ann)}
        for _ in range(3):
            home.clock.advance(LIFE)
            handed = await asyncio.gather(*(token(home, ann) for _ in range(20)))
            assert len(set(handed)) == 1, "one refresh, whoever asks"
            seen.add(handed[0])
        assert len(seen) == 4
        async with browser() as http:  # what is handed out works there
            mine = await http.get(f"{issuer}/me", headers={"Authorization": f"Bearer {handed[0]}"})
            assert (mine.status_code, mine.json()["sub"]) == (200, "ada")
            left = await home.call("DELETE", f"{PATH}/sso", ann)
            assert left.json() == {"revoked": True, "problem": None}
            gone = await http.get(f"{issuer}/me", headers={"Authorization": f"Bearer {handed[0]}"})
            assert gone.status_code == 401


async def test_b4_a_grant_that_the_provider_has_ended(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, issuer: str
) -> None:
    """Somebody shows a refresh token a second time: the provider ends the grant, and Homeport says so."""
    async with staged(fresh_database, signer, issuer) as home:
        ann = await home.person("ann", home=Role.DEVELOPER)
        await connect(home, ann)
        key = GrantKey(TeamId("home"), ann.id, "sso")
        stolen = (await home.connections.tokens.auth_tokens(key).load_tokens()).refresh_token
        assert stolen is not None
        home.clock.advance(LIFE)
        await token(home, ann)
        assert CLIENT.secret is not None
        async with browser() as http:
            form = {"grant_type": "refresh_token", "refresh_token": stolen.reveal()}
            answer = await http.post(f"{issuer}/token", data=form, auth=(CLIENT.id, CLIENT.secret.reveal()))
            assert answer.json()["error"] == "invalid_grant"
        home.clock.advance(LIFE)
        answer = await home.call("POST", f"{PATH}/sso/access-token", ann)
        assert (answer.status_code, answer.json()["code"]) == (409, "needs_reconnect")
        home.clock.wall_now = SystemClock().wall()
        await connect(home, ann)
        assert await token(home, ann)


async def test_an_offline_token_of_sign_in(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, issuer: str
) -> None:
    """It is asked for at sign-in, kept, refreshed while the person is away, and revoked."""
    clock = SystemClock()
    fetcher = HttpxFetcher(issuer, tls=TLS)
    sign_in = ProviderClient("sign-in", openid(issuer), http=FetcherHttp(HttpxFetcher(issuer, tls=TLS)), clock=clock)
    party = RelyingParty(issuer, CLIENT, scopes=("email",), fetcher=fetcher, clock=clock, offline=True)
    try:
        async with staged(fresh_database, signer, issuer, sign_in) as home:
            ann = await home.person("ann", home=Role.DEVELOPER)
            assert (await home.call("GET", "/api/offline-token", ann)).json()["code"] == "no_offline_token"
            url, transaction = await party.begin(SIGN_IN_CALLBACK)
            brought = await consent(url, SIGN_IN_CALLBACK)
            person, tokens = await party.redeem(transaction, brought["code"])
            assert person.subject == "ada"
            assert tokens.refresh_token is not None
            user = UserRecord(id=ann.id, name="ann", email=ann.email)
            visit = Visit(address="192.0.2.1", request_id="req_1")
            await home.connections.offline.keep(
                user, Secret(tokens.refresh_token), expires_at=0.0, scopes=party.scopes, visit=visit
            )
            shown = (await home.call("GET", "/api/offline-token", ann)).json()
            assert (shown["state"], shown["refreshable"], shown["team"]) == ("active", True, None)
            for _ in range(2):
                handed = await home.call("POST", "/api/offline-token/access-token", ann)
                assert handed.status_code == 200, handed.text
                home.clock.advance(LIFE)
            assert home.audit.actions[-3:] == ["offline_token.stored", *["offline_token.handed_out"] * 2]
            left = await home.call("DELETE", "/api/offline-token", ann)
            assert left.json() == {"revoked": True, "problem": None}
            assert (await home.call("GET", "/api/offline-token", ann)).status_code == 404
    finally:
        await fetcher.aclose()
