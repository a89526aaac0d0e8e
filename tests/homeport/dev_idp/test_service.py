"""The provider for development: through it the API's own relying party signs people in, and it refuses the rest."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from aiohttp import web

from api_server.auth.oidc import Client, HttpxFetcher, RelyingParty
from api_server.auth.oidc.errors import CodeRefusedError
from common.clock import SystemClock
from common.crypto.errors import KeyFileError
from homeport.dev_idp.errors import DevProviderRefusedError
from homeport.dev_idp.people import DevPeople
from homeport.dev_idp.place import check_place
from homeport.dev_idp.provider import DevProvider, new_key
from homeport.dev_idp.service import DevIdpService

pytestmark = pytest.mark.anyio

TLS = ssl.create_default_context()
"""One for all: loading certificates takes longer than the tests."""

API = "http://127.0.0.1:3721"
CALLBACK = f"{API}/api/auth/callback"


@dataclass
class Running:
    issuer: str
    people: DevPeople
    http: httpx.AsyncClient
    party: RelyingParty
    told: list[tuple[str, str]]

    async def page(self, url: str) -> dict[str, str]:
        """The hidden fields of the sign-in page at `url`."""
        answer = await self.http.get(url)
        assert answer.status_code == 200, answer.text
        return dict(re.findall(r'name="(\w+)" value="([^"]*)"', answer.text.partition("<label>")[0]))

    async def choose(self, url: str, **person: str) -> dict[str, str]:
        """What the browser brings back to the API."""
        answer = await self.http.post("/authorize", data=(await self.page(url)) | person)
        assert answer.status_code == 303, answer.text
        location = answer.headers["Location"]
        assert location.startswith(CALLBACK + "?")
        return dict(parse_qsl(urlsplit(location).query))


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    told: list[tuple[str, str]] = []

    async def take(request: httpx.Request) -> httpx.Response:
        told.append((str(request.url), dict(parse_qsl(request.content.decode()))["logout_token"]))
        return httpx.Response(200)

    people = DevPeople(folder / "people.json")
    listener = socket.create_server(("127.0.0.1", 0))
    issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(transport=httpx.MockTransport(take)) as back:
        provider = DevProvider(issuer, "homeport", new_key())
        runner = web.AppRunner(DevIdpService(provider, people, back, SystemClock()).application())
        await runner.setup()
        await web.SockSite(runner, listener).start()
        fetcher = HttpxFetcher(issuer, tls=TLS)
        try:
            async with httpx.AsyncClient(base_url=issuer, trust_env=False, timeout=20, verify=False) as http:
                party = RelyingParty(
                    issuer, Client("homeport"), scopes=("email", "profile"), fetcher=fetcher, clock=SystemClock()
                )
                yield Running(issuer, people, http, party, told)
        finally:
            await fetcher.aclose()
            await runner.cleanup()


async def test_somebody_new_signs_in_and_is_offered_the_next_time(tmp_path: Path) -> None:
    async with running(tmp_path) as idp:
        url, transaction = await idp.party.begin(CALLBACK)
        answer = await idp.choose(url, name="Ada  Lovelace", email="ada@example.org")
        code = await idp.party.code_of(
            transaction, state=answer["state"], code=answer["code"], error=None, iss=answer["iss"]
        )
        person = await idp.party.finish(transaction, code)
        assert (person.name, person.email, person.email_verified) == ("Ada Lovelace", "ada@example.org", True)
        with pytest.raises(CodeRefusedError):
            await idp.party.finish(transaction, code)

        url, transaction = await idp.party.begin(CALLBACK)
        page = (await idp.http.get(url)).text
        assert "Ada Lovelace" in page
        assert "asks for no password" in page
        answer = await idp.choose(url, subject=person.subject)
        assert (await idp.party.finish(transaction, answer["code"])).subject == person.subject
        assert DevPeople(tmp_path / "people.json").all() == idp.people.all()
        assert len(idp.people.all()) == 1


async def test_signing_out_tells_the_api_and_goes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as idp:
        url, transaction = await idp.party.begin(CALLBACK)
        answer = await idp.choose(url, name="Ada", email="ada@example.org")
        person = await idp.party.finish(transaction, answer["code"])
        end = await idp.party.end_session_url(return_to=f"{API}/")
        assert end is not None
        back = await idp.http.get(end)
        assert (back.status_code, back.headers["Location"]) == (303, f"{API}/")
        ((where, token),) = idp.told
        assert where == f"{API}/api/auth/backchannel-logout"
        claims = await idp.party.logout_of(token)
        assert (claims.subject, claims.provider_session) == (person.subject, person.provider_session)
        await idp.http.get(end)
        assert len(idp.told) == 1


async def test_the_first_page_signs_somebody_out(tmp_path: Path) -> None:
    async with running(tmp_path) as idp:
        url, _ = await idp.party.begin(CALLBACK)
        await idp.choose(url, name="Ada <script>", email="ada@example.org")
        page = (await idp.http.get("/")).text
        assert "Ada &lt;script&gt;" in page
        (sid,) = re.findall(r'name="sid" value="(\w+)"', page)
        assert (await idp.http.post("/sign-out", data={"sid": sid})).status_code == 303
        assert len(idp.told) == 1
        assert "Nobody" in (await idp.http.get("/")).text


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "another"},
        {"redirect_uri": "https://homeport.example.org/api/auth/callback"},
        {"redirect_uri": "http://127.0.0.1.evil.test/api/auth/callback"},
        {"redirect_uri": "http://127.0.0.1:1@evil.test/api/auth/callback"},
        {"redirect_uri": "http://evil.test\\@127.0.0.1/api/auth/callback"},
        {"redirect_uri": "http://127.0.0.1:3721/elsewhere"},
        {"redirect_uri": "http://127.0.0.1:3721/api/auth/callback?x=1"},
        {"redirect_uri": "javascript:alert(1)"},
        {"response_type": "token"},
        {"scope": "email"},
        {"code_challenge_method": "plain"},
        {"code_challenge": ""},
        {"code_challenge": None},
        {"state": "x" * 5000},
    ],
)
async def test_requests_that_are_not_taken(tmp_path: Path, changes: dict[str, str | None]) -> None:
    async with running(tmp_path) as idp:
        url, _ = await idp.party.begin(CALLBACK)
        fields = dict(parse_qsl(urlsplit(url).query))
        changed = {name: value for name, value in (fields | changes).items() if value is not None}
        for answer in (
            await idp.http.get("/authorize", params=changed),
            await idp.http.post("/authorize", data=changed | {"name": "Eve", "email": "eve@example.org"}),
        ):
            assert answer.status_code == 400
            assert "Location" not in answer.headers
        assert idp.people.all() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"grant_type": "client_credentials"},
        {"client_id": "another"},
        {"code": "another"},
        {"code_verifier": "x" * 43},
        {"redirect_uri": "http://127.0.0.1:1/api/auth/callback"},
    ],
)
async def test_codes_that_are_not_taken(tmp_path: Path, changes: dict[str, str]) -> None:
    async with running(tmp_path) as idp:
        url, transaction = await idp.party.begin(CALLBACK)
        answer = await idp.choose(url, name="Ada", email="ada@example.org")
        form = {
            "grant_type": "authorization_code",
            "client_id": "homeport",
            "code": answer["code"],
            "redirect_uri": CALLBACK,
            "code_verifier": transaction.verifier,
        } | changes
        refused = await idp.http.post("/token", data=form)
        assert refused.status_code == 400
        assert refused.json()["error"] in ("invalid_grant", "invalid_client", "unsupported_grant_type")


async def test_other_sites_and_other_names_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as idp:
        url, _ = await idp.party.begin(CALLBACK)
        fields = await idp.page(url) | {"name": "Eve", "email": "eve@example.org"}
        for headers in (
            {"Origin": "https://evil.test"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Host": "evil.test"},
            {"Host": "127.0.0.1.evil.test"},
        ):
            answer = await idp.http.post("/authorize", data=fields, headers=headers)
            assert answer.status_code == 403, headers
        assert (await idp.http.get("/", headers={"Host": "rebound.test"})).status_code == 403
        assert idp.people.all() == []
        policy = (await idp.http.get(url)).headers["Content-Security-Policy"]
        assert f"form-action 'self' {API}" in policy
        assert "default-src 'none'" in policy


async def test_names_and_addresses_that_are_none(tmp_path: Path) -> None:
    async with running(tmp_path) as idp:
        url, _ = await idp.party.begin(CALLBACK)
        for name in ("", " ", "x" * 101, "\u202eeve", "a\x00b"):
            person = {"name": name, "email": "eve@example.org"}
            assert (await idp.http.post("/authorize", data=await idp.page(url) | person)).status_code == 400, name
        for wrong in ("", "eve", "@", "a b@c", "eve@", "x" * 300 + "@y"):
            answer = await idp.http.post("/authorize", data=await idp.page(url) | {"name": "Eve", "email": wrong})
            assert answer.status_code == 400
        assert idp.people.all() == []


async def test_userinfo_is_for_whoever_holds_the_token(tmp_path: Path) -> None:
    async with running(tmp_path) as idp:
        for headers in ({}, {"Authorization": "Bearer nothing"}, {"Authorization": "Basic x"}):
            assert (await idp.http.get("/userinfo", headers=headers)).status_code == 401


def test_people_that_somebody_else_wrote(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    path.write_text("this is not JSON at all")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not what"):
        DevPeople(path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_it_listens_on_this_machine_only(host: str) -> None:
    with pytest.raises(DevProviderRefusedError):
        check_place(host, None)


@pytest.mark.parametrize(
    "public_url", ["https://homeport.example.org", "http://192.0.2.1:3721", "https://localhost.evil.test"]
)
def test_it_is_refused_where_the_api_is_public(public_url: str) -> None:
    with pytest.raises(DevProviderRefusedError):
        check_place("127.0.0.1", public_url)


@pytest.mark.parametrize("public_url", [None, "http://localhost:3721", "https://127.0.0.1", "http://[::1]:3721"])
def test_it_may_run_on_this_machine(public_url: str | None) -> None:
    check_place("127.0.0.1", public_url)
    check_place("::1", public_url)
