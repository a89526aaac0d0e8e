"""Homeport as the client of each kind of provider: what it sends, and what it makes of what comes back."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from api_server.auth.oidc.answer import Answer
from api_server.auth.oidc.errors import ProviderUnavailableError
from api_server.provider_tokens.errors import (
    ConnectCodeRefusedError,
    ConsentRefusedError,
    GrantRefusedError,
    InvalidConnectCallbackError,
    ProviderAwayError,
    ProviderNotFoundError,
    ProviderRefusesClientError,
)
from api_server.provider_tokens.providers.catalogue import Providers
from api_server.provider_tokens.providers.client import ProviderClient
from api_server.provider_tokens.providers.sending import NotAskedError
from api_server.provider_tokens.settings import ProviderKind, ProviderSettings, check_providers
from common.secret import Secret
from tests.api_server.auth.oidc.provider import CLIENT, ISSUER, NOW, FakeProvider
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio

CALLBACK = "https://home.test/api/provider-tokens/x/callback"
SECRET = Secret("client: secret")
GITHUB_AT_WORK = {"kind": ProviderKind.GITHUB, "url": "https://git.test/"}
GITLAB_IN_A_FOLDER = {"kind": ProviderKind.GITLAB, "url": "https://x.test/lab", "scopes": ("api",)}
BASIC = "Basic " + base64.b64encode(b"app:client%3A+secret").decode()


class Wire:
    """Notes what is sent, and answers as it was told."""

    def __init__(self, status: int = 200, content: object = None) -> None:
        self.sent: list[tuple[str, str, Any, Mapping[str, str]]] = []
        self.answer = Answer(status, b"" if content is None else json.dumps(content).encode())
        self.fault: Exception | None = None

    def _sent(self, method: str, url: str, content: Any, headers: Mapping[str, str] | None) -> Answer:
        self.sent.append((method, url, content, headers or {}))
        if self.fault is not None:
            raise self.fault
        return self.answer

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self._sent("GET", url, None, headers)

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        return self._sent("POST", url, dict(form), headers)

    async def delete(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        return self._sent("DELETE", url, json.loads(content), headers)

    async def aclose(self) -> None:
        pass


class OpenIdWire(FakeProvider):
    """An OpenID provider that has tokens taken back, too."""

    def __init__(self) -> None:
        super().__init__()
        self.discovery["revocation_endpoint"] = f"{ISSUER}/revoke"

    async def delete(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        raise AssertionError("no OpenID provider is asked to delete")


def client(name: str, wire: Any, **changes: Any) -> ProviderClient:
    settings = ProviderSettings(**{"client_id": "app", "client_secret": SECRET, **changes})
    return Providers({name: settings}, http=wire, clock=FakeClock(NOW)).get(name)


def asked(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


@pytest.mark.parametrize(
    ("name", "changes", "where", "scope"),
    [
        ("github", {}, "https://github.com/login/oauth/authorize", "repo read:user"),
        ("gitlab", {}, "https://gitlab.com/oauth/authorize", "read_user read_repository write_repository"),
        ("bitbucket", {}, "https://bitbucket.org/site/oauth2/authorize", "account repository repository:write"),
        ("work", GITHUB_AT_WORK, "https://git.test/login/oauth/authorize", "repo read:user"),
        ("lab", GITLAB_IN_A_FOLDER, "https://x.test/lab/oauth/authorize", "api"),
    ],
)
async def test_where_a_browser_is_sent(name: str, changes: Any, where: str, scope: str) -> None:
    """S1 for connections: PKCE S256 and state, always, and each time others."""
    provider = client(name, Wire(), **changes)
    url, transaction = await provider.begin(CALLBACK)
    other, _ = await provider.begin(CALLBACK)
    assert url.partition("?")[0] == where
    parameters = asked(url)
    assert parameters["code_challenge_method"] == "S256"
    assert len(parameters["code_challenge"]) == 43
    assert parameters["state"] == transaction.state != asked(other)["state"]
    assert parameters["redirect_uri"] == CALLBACK
    assert parameters["client_id"] == "app"
    assert parameters["scope"] == scope
    assert transaction.verifier not in url
    assert SECRET.reveal() not in url


async def test_a_provider_without_scopes_is_asked_for_none() -> None:
    url, _ = await client("github", Wire(), scopes=()).begin(CALLBACK)
    assert "scope" not in asked(url)


async def test_further_parameters_replace_none_of_ours() -> None:
    provider = client("github", Wire(), parameters={"allow_signup": "false"})
    assert asked((await provider.begin(CALLBACK))[0])["allow_signup"] == "false"
    with pytest.raises(ValueError, match="state"):
        ProviderSettings(client_id="app", parameters={"state": "planted"})


@pytest.mark.parametrize(
    ("name", "where", "proof"),
    [
        ("github", "https://github.com/login/oauth/access_token", "form"),
        ("gitlab", "https://gitlab.com/oauth/token", "form"),
        ("bitbucket", "https://bitbucket.org/site/oauth2/access_token", "basic"),
    ],
)
async def test_a_code_is_redeemed_with_its_verifier_and_proof_of_who_asks(name: str, where: str, proof: str) -> None:
    wire = Wire(200, {"access_token": "a", "token_type": "bearer"})
    provider = client(name, wire)
    _, transaction = await provider.begin(CALLBACK)
    redeemed = await provider.redeem(transaction, "the-code")
    assert redeemed.tokens.access_token == Secret("a")
    ((method, url, form, headers),) = wire.sent
    assert (method, url) == ("POST", where)
    assert headers["Accept"] == "application/json"
    expected = {
        "grant_type": "authorization_code",
        "code": "the-code",
        "redirect_uri": CALLBACK,
        "code_verifier": transaction.verifier,
    }
    if proof == "form":
        assert form == expected | {"client_id": "app", "client_secret": SECRET.reveal()}
    else:
        assert (form, headers["Authorization"]) == (expected, BASIC)


async def test_a_refresh_is_sent_once_whatever_comes_of_it() -> None:
    wire = Wire(200, {"access_token": "a2", "refresh_token": "r2", "expires_in": 7200})
    provider = client("gitlab", wire)
    given = await provider.refresh(Secret("r1"))
    assert (given.access_token, given.refresh_token) == (Secret("a2"), Secret("r2"))
    assert wire.sent[0][2]["refresh_token"] == "r1"
    wire.fault = ProviderUnavailableError("it hangs")
    with pytest.raises(ProviderAwayError) as caught:
        await provider.refresh(Secret("r2"))
    assert not caught.value.undone
    wire.fault = NotAskedError("it may not be asked")
    with pytest.raises(ProviderAwayError) as caught:
        await provider.refresh(Secret("r2"))
    assert caught.value.undone
    wire.fault, wire.answer = None, Answer(400, b'{"error": "invalid_grant"}')
    with pytest.raises(GrantRefusedError):
        await provider.refresh(Secret("r2"))
    assert len(wire.sent) == 4


async def test_a_public_client_has_no_secret_to_show() -> None:
    wire = Wire(200, {"access_token": "a"})
    provider = client("gitlab", wire, client_secret=None)
    await provider.refresh(Secret("r1"))
    ((_, _, form, headers),) = wire.sent
    assert form == {"grant_type": "refresh_token", "refresh_token": "r1", "client_id": "app"}
    assert "Authorization" not in headers


# Taking back


async def test_github_takes_back_the_grant_and_not_the_token_alone() -> None:
    wire = Wire(204)
    assert await client("github", wire).revoke(Secret("gho_a"), Secret("ghr_r"))
    ((method, url, content, headers),) = wire.sent
    assert (method, url) == ("DELETE", "https://api.github.com/applications/app/grant")
    assert content == {"access_token": "gho_a"}
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"app:client: secret").decode()


async def test_github_elsewhere_has_its_api_elsewhere() -> None:
    wire = Wire(204)
    await client("github", wire, url="https://git.test").revoke(Secret("a"), None)
    await client("github", wire, url="https://git.test", api_url="https://api.git.test/").revoke(Secret("a"), None)
    assert [url for _, url, _, _ in wire.sent] == [
        "https://git.test/api/v3/applications/app/grant",
        "https://api.git.test/applications/app/grant",
    ]


async def test_gitlab_takes_back_both_tokens() -> None:
    wire = Wire(200, {})
    assert await client("gitlab", wire).revoke(Secret("a"), Secret("r"))
    assert [(url, form["token"]) for _, url, form, _ in wire.sent] == [
        ("https://gitlab.com/oauth/revoke", "r"),
        ("https://gitlab.com/oauth/revoke", "a"),
    ]


async def test_bitbucket_has_no_way_and_is_not_asked() -> None:
    wire = Wire()
    assert not await client("bitbucket", wire).revoke(Secret("a"), Secret("r"))
    assert not wire.sent


async def test_a_provider_that_does_not_take_it_back_is_not_believed_to_have() -> None:
    with pytest.raises(ProviderRefusesClientError, match="404"):
        await client("github", Wire(404)).revoke(Secret("a"), None)


# OpenID providers


def openid(wire: OpenIdWire, **changes: Any) -> ProviderClient:
    return client("sso", wire, **{"client_id": CLIENT, "client_secret": None, "url": ISSUER, **changes})


async def test_an_openid_provider_is_discovered_and_its_id_token_checked() -> None:
    wire = OpenIdWire()
    provider = openid(wire)
    url, transaction = await provider.begin(CALLBACK)
    assert (asked(url)["scope"], asked(url)["prompt"]) == ("openid offline_access", "consent")
    brought = wire.authorize(url)
    code = await provider.code_of(transaction, error=None, **brought)
    redeemed = await provider.redeem(transaction, code)
    assert redeemed.account == "ada@example.org"
    wire.answers["/revoke"] = Answer(200, b"")
    assert await provider.revoke(Secret("a"), Secret("r"))
    assert [form["token"] for form in wire.forms[1:]] == ["r", "a"]


async def test_s5_what_an_openid_provider_brings_back_is_held_against_what_was_begun() -> None:
    wire = OpenIdWire()
    provider = openid(wire)
    url, transaction = await provider.begin(CALLBACK)
    good = wire.authorize(url)
    for changes in ({"state": "other"}, {"iss": "https://other.test"}, {"iss": None}, {"code": ""}):
        with pytest.raises(InvalidConnectCallbackError):
            await provider.code_of(transaction, error=None, **{**good, **changes})
    with pytest.raises(ConsentRefusedError, match="access_denied"):
        await provider.code_of(transaction, state=good["state"], code=None, error="access_denied", iss=good["iss"])
    with pytest.raises(ProviderAwayError):
        await provider.code_of(transaction, state=good["state"], code=None, error="server_error", iss=good["iss"])


@pytest.mark.parametrize("claims", [{"nonce": "other"}, {"aud": "other"}, {"iss": "https://other.test"}, {"exp": 5}])
async def test_s5_an_id_token_that_does_not_hold(claims: dict[str, Any]) -> None:
    wire = OpenIdWire()
    provider = openid(wire)
    url, transaction = await provider.begin(CALLBACK)
    wire.claims = claims
    with pytest.raises(ConnectCodeRefusedError, match="ID token"):
        await provider.redeem(transaction, wire.authorize(url)["code"])


async def test_a_code_of_another_transaction_is_refused() -> None:
    wire = OpenIdWire()
    provider = openid(wire)
    url, _ = await provider.begin(CALLBACK)
    _, other = await provider.begin(CALLBACK)
    with pytest.raises(ConnectCodeRefusedError):
        await provider.redeem(other, wire.authorize(url)["code"])


async def test_a_provider_that_cannot_be_discovered_has_spent_nothing() -> None:
    wire = OpenIdWire()
    wire.away = {"/.well-known/openid-configuration"}
    with pytest.raises(ProviderAwayError) as caught:
        await openid(wire).refresh(Secret("r"))
    assert caught.value.undone


async def test_one_without_a_revocation_endpoint_is_not_asked() -> None:
    wire = OpenIdWire()
    del wire.discovery["revocation_endpoint"]
    assert not await openid(wire).revoke(Secret("a"), None)


# What is set up


def test_a_provider_is_what_its_name_says_unless_it_says_more() -> None:
    github = ProviderSettings(client_id="app")
    assert github.kind_of("github") == "github"
    assert github.kind_of("example") == "oidc"


@pytest.mark.parametrize(
    ("providers", "problem"),
    [
        ({"GitHub": ProviderSettings(client_id="app")}, "lower-case"),
        ({"sso": ProviderSettings(client_id="app")}, "issuer"),
    ],
)
def test_what_cannot_be_set_up(providers: dict[str, ProviderSettings], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_providers(providers)


@pytest.mark.parametrize("url", ["http://git.test", "ftp://git.test", "https://u:p@git.test", "https://git.test/?a=b"])
def test_where_no_token_goes(url: str) -> None:
    with pytest.raises(ValueError, match="https URL"):
        ProviderSettings(client_id="app", url=url)


def test_one_that_is_not_there() -> None:
    with pytest.raises(ProviderNotFoundError):
        Providers({}, http=Wire(), clock=FakeClock()).get("github")
