"""S1 and S3 with a provider that others have certified: people come in, go out, and are signed out from there."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
import pytest

from api_server.auth.oidc import Client, HttpxFetcher, RelyingParty, ServiceClient
from api_server.auth.oidc.errors import ProviderUnavailableError
from api_server.auth.signin.authenticator import SessionAuthenticator
from api_server.auth.signin.cookie_keys import CookieKeys, new_cookie_key
from api_server.auth.signin.cookies import Cookies
from api_server.auth.signin.endpoints import SignInEndpoints
from api_server.auth.signin.service import CALLBACK_PATH, SignInService
from common.clock import SystemClock
from common.crypto.session_tokens import SessionTokenSigner
from common.secret import Secret
from tests.api_server.auth.signin.memory import FakeTeams, MemorySignInStore
from tests.api_server.fakes import FakeClock
from tests.api_server.rest import Api, running_api

pytestmark = pytest.mark.anyio

TLS = ssl.create_default_context()
"""One for all: loading certificates takes a while."""

CSRF = {"X-Homeport-CSRF": "1"}
PUBLIC = Client("homeport-public")
BASIC = Client("homeport-basic", Secret("a secret: with & odd % characters +"))
POST = Client("homeport-post", Secret("another-secret-that-goes-by-the-form"))
SERVICE = Client("homeport-service", Secret("the-secret-of-the-service-client-0"))


def registration(api: str, client: Client, alg: str) -> dict[str, Any]:
    """The client as the provider's administrator would enter it."""
    method = {"homeport-public": "none", "homeport-post": "client_secret_post"}.get(client.id, "client_secret_basic")
    entry: dict[str, Any] = {
        "client_id": client.id,
        "token_endpoint_auth_method": method,
        "redirect_uris": [api + CALLBACK_PATH],
        "post_logout_redirect_uris": [api + "/"],
        "backchannel_logout_uri": api + "/api/auth/backchannel-logout",
        "backchannel_logout_session_required": True,
        "id_token_signed_response_alg": alg,
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
    }
    if client is SERVICE:
        entry |= {"redirect_uris": [], "grant_types": ["client_credentials"], "response_types": []}
        entry |= {"backchannel_logout_uri": None, "post_logout_redirect_uris": []}
    if client.secret is not None:
        entry["client_secret"] = client.secret.reveal()
    return {key: value for key, value in entry.items() if value is not None}


async def configure(issuer: str, api: str, *, alg: str = "RS256") -> None:
    """Make the provider know our clients; its keys are new from then on."""
    clients = [registration(api, client, alg) for client in (PUBLIC, BASIC, POST, SERVICE)]
    async with httpx.AsyncClient(trust_env=False, timeout=60, verify=False) as http:
        assert (await http.put(issuer + "/control", json=clients)).status_code == 204


@dataclass
class Stage:
    api: Api
    issuer: str
    store: MemorySignInStore
    party: RelyingParty
    clock: FakeClock | SystemClock


@asynccontextmanager
async def staged(
    signer: SessionTokenSigner, issuer: str, client: Client = PUBLIC, *, alg: str = "RS256"
) -> AsyncIterator[Stage]:
    """An API whose people sign in at the provider."""
    clock, store = SystemClock(), MemorySignInStore()
    teams = FakeTeams()
    cookies = Cookies(CookieKeys(new_cookie_key()), secure=False, callback_path=CALLBACK_PATH)
    sessions = SessionAuthenticator(store, cookies, teams, clock)
    fetcher = HttpxFetcher(issuer, tls=TLS)
    party = RelyingParty(issuer, client, scopes=("email", "profile"), fetcher=fetcher, clock=clock)
    here: list[str] = []
    service = SignInService(
        party,
        store,
        cookies,
        sessions,
        clock,
        base_url=lambda: here[0],
        fixed_base_url=False,
        idle=3600,
        lifetime=86400,
    )
    endpoints = SignInEndpoints(service, cookies, sessions, teams, teams)
    async with running_api(signer, sign_in=endpoints, sessions=sessions) as api:
        here.append(api.url)
        await configure(issuer, api.url, alg=alg)
        try:
            yield Stage(api, issuer, store, party, clock)
        finally:
            await party.aclose()


def browser() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=60, verify=False)


async def submit(http: httpx.AsyncClient, page: httpx.Response, **fields: str) -> httpx.Response:
    """Fill in the first form of a page, and send it."""
    form = page.text[page.text.index("<form") : page.text.index("</form>")]
    action = re.search(r'action="([^"]*)"', form)
    assert action is not None
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    return await http.post(urljoin(str(page.url), unescape(action[1])), data=hidden | fields)


async def follow(http: httpx.AsyncClient, answer: httpx.Response, until: str) -> str:
    """Follow redirects and the provider's forms, until a URL that begins so; it is not opened."""
    for _ in range(20):
        if answer.is_redirect:
            url = urljoin(str(answer.url), answer.headers["Location"])
            if url.startswith(until):
                return url
            answer = await http.get(url)
        elif 'name="login"' in answer.text:
            answer = await submit(http, answer, login="ada", password="any")
        elif 'value="consent"' in answer.text:
            answer = await submit(http, answer)
        elif "op.logoutForm" in answer.text:
            answer = await submit(http, answer, logout="yes")
        else:
            raise AssertionError(f"{answer.url} {answer.status_code} {answer.text[:2000]}")
    raise AssertionError("too many steps")


async def callback_of(stage: Stage, http: httpx.AsyncClient) -> str:
    """Sign in at the provider; the URL by which it sends the browser back."""
    login = await http.get(f"{stage.api.url}/api/auth/login?return_to=/x")
    assert login.status_code == 303, login.text
    return await follow(http, login, stage.api.url + CALLBACK_PATH)


async def sign_in(stage: Stage, http: httpx.AsyncClient) -> None:
    answer = await http.get(await callback_of(stage, http))
    assert (answer.status_code, answer.headers.get("Location")) == (303, f"{stage.api.url}/x"), answer.text


@pytest.mark.parametrize(
    ("client", "alg"),
    [(PUBLIC, "RS256"), (BASIC, "PS256"), (POST, "ES256"), (BASIC, "EdDSA")],
    ids=["public", "secret-basic", "secret-post", "eddsa"],
)
async def test_s1_sign_in_and_out(signer: SessionTokenSigner, issuer: str, client: Client, alg: str) -> None:
    async with staged(signer, issuer, client, alg=alg) as stage, browser() as http:
        await sign_in(stage, http)
        me = (await http.get(f"{stage.api.url}/api/auth/me")).json()
        assert me["user"] == {"id": me["id"], "name": "Name of ada", "email": "ada@example.org"}
        (kept,) = stage.store.sessions.values()
        assert (kept.person.issuer, kept.person.subject, kept.person.email_verified) == (issuer, "ada", True)
        assert kept.person.provider_session

        out = await http.post(f"{stage.api.url}/api/auth/logout", headers=CSRF)
        assert out.status_code == 200
        assert (await http.get(f"{stage.api.url}/api/auth/me")).status_code == 401
        end = await http.get(out.json()["end_session_url"])
        assert await follow(http, end, stage.api.url + "/") == stage.api.url + "/"


async def test_s3_the_provider_ends_every_session_of_its_own(signer: SessionTokenSigner, issuer: str) -> None:
    """Signed out at the provider: its back-channel request has ended our session by the time that it answers."""
    async with staged(signer, issuer) as stage, browser() as http, browser() as other:
        await sign_in(stage, http)
        await sign_in(stage, other)
        end = await stage.party.end_session_url(return_to=stage.api.url + "/")
        assert end is not None
        await follow(http, await http.get(end), stage.api.url + "/")
        assert (await http.get(f"{stage.api.url}/api/auth/me")).status_code == 401
        assert (await other.get(f"{stage.api.url}/api/auth/me")).status_code == 200
        assert [kept.ended for kept in stage.store.sessions.values()] == ["provider", None]


async def test_s5_callback_replay(signer: SessionTokenSigner, issuer: str) -> None:
    async with staged(signer, issuer) as stage, browser() as http, browser() as thief:
        url = await callback_of(stage, http)
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in http.cookies.jar)
        assert (await http.get(url)).status_code == 303
        assert (await http.get(url)).json()["code"] == "invalid_callback"
        assert (await thief.get(url)).json()["code"] == "invalid_callback"
        assert (await thief.get(url, headers={"Cookie": cookies})).json()["code"] == "callback_replayed"


async def test_s5_a_code_that_was_stolen_is_worth_nothing_in_another_sign_in(
    signer: SessionTokenSigner, issuer: str
) -> None:
    """The thief puts the victim's code beside a state of their own: PKCE binds the code to the sign-in."""
    async with staged(signer, issuer) as stage, browser() as victim, browser() as thief:
        stolen = dict(parse_qsl(urlsplit(await callback_of(stage, victim)).query))
        own = dict(parse_qsl(urlsplit(await callback_of(stage, thief)).query))
        answer = await thief.get(stage.api.url + CALLBACK_PATH, params=own | {"code": stolen["code"]})
        assert answer.json()["code"] == "code_refused"
        assert stage.store.refusals == ["code_refused"]


async def test_s1_the_provider_names_itself_and_another_name_is_refused(
    signer: SessionTokenSigner, issuer: str
) -> None:
    async with staged(signer, issuer) as stage, browser() as http:
        given = dict(parse_qsl(urlsplit(await callback_of(stage, http)).query))
        assert given["iss"] == issuer
        for changed in (given | {"iss": "https://other.test"}, {key: given[key] for key in ("code", "state")}):
            answer = await http.get(stage.api.url + CALLBACK_PATH, params=changed)
            assert answer.json()["code"] == "invalid_callback"


async def test_s1_somebody_who_says_no_is_told_so(signer: SessionTokenSigner, issuer: str) -> None:
    async with staged(signer, issuer) as stage, browser() as http:
        login = await http.get(f"{stage.api.url}/api/auth/login")
        page = await http.get(login.headers["Location"])
        page = await http.get(urljoin(issuer, page.headers["Location"]))
        abort = re.search(r'href="([^"]*/abort)"', page.text)
        assert abort is not None
        answer = await http.get(urljoin(issuer, abort[1]))
        url = await follow(http, answer, stage.api.url + CALLBACK_PATH)
        refused = await http.get(url)
        assert (refused.status_code, refused.json()["code"]) == (403, "sign_in_refused")


async def test_keys_that_change_are_fetched_anew(signer: SessionTokenSigner, issuer: str) -> None:
    clock = FakeClock(SystemClock().wall())
    fetcher = HttpxFetcher(issuer, tls=TLS)
    party = RelyingParty(issuer, PUBLIC, scopes=(), fetcher=fetcher, clock=clock)
    callback = "http://127.0.0.1:1" + CALLBACK_PATH
    try:
        for _ in range(2):
            await configure(issuer, "http://127.0.0.1:1")  # new keys, under new ids
            async with browser() as http:
                url, transaction = await party.begin(callback)
                given = dict(parse_qsl(urlsplit(await follow(http, await http.get(url), callback)).query))
                assert (await party.finish(transaction, given["code"])).subject == "ada"
            clock.advance(31)
    finally:
        await party.aclose()


async def test_the_service_client_gets_a_token_that_opens_nothing_here(signer: SessionTokenSigner, issuer: str) -> None:
    async with staged(signer, issuer) as stage:
        fetcher = HttpxFetcher(issuer, tls=TLS)
        try:
            service = ServiceClient(stage.party.provider, SERVICE, fetcher=fetcher, clock=stage.clock)
            token = await service.token()
            assert await service.token() == token
            answer = await stage.api.http.get("/api/auth/me", headers={"Authorization": f"Bearer {token.reveal()}"})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            wrong = Client(SERVICE.id, Secret("wrong"))
            with pytest.raises(ProviderUnavailableError, match="refuses Homeport"):
                await ServiceClient(stage.party.provider, wrong, fetcher=fetcher, clock=stage.clock).token()
        finally:
            await fetcher.aclose()


async def test_a_client_that_the_provider_does_not_know(signer: SessionTokenSigner, issuer: str) -> None:
    async with staged(signer, issuer, Client(BASIC.id, Secret("wrong"))) as stage, browser() as http:
        answer = await http.get(await callback_of(stage, http))
        assert (answer.status_code, answer.json()["code"]) == (503, "sign_in_unavailable")
        assert "invalid_client" in answer.json()["detail"]
