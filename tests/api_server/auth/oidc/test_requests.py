"""S1: what is sent to the provider, and which of its answers count."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from api_server.auth.oidc import Client, RelyingParty, ServiceClient
from api_server.auth.oidc.answer import Answer
from api_server.auth.oidc.errors import (
    CodeRefusedError,
    InvalidCallbackError,
    OidcError,
    ProviderUnavailableError,
    SignInRefusedError,
)
from common.secret import Secret
from tests.api_server.auth.oidc.provider import CLIENT, ISSUER, NOW, FakeProvider
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio

CALLBACK = "https://homeport.test/api/auth/callback"


def party_of(provider: FakeProvider, client: Client | None = None, clock: FakeClock | None = None) -> RelyingParty:
    return RelyingParty(
        provider.issuer,
        client if client is not None else Client(CLIENT),
        scopes=("email", "openid", "email"),
        fetcher=provider,
        clock=clock if clock is not None else FakeClock(NOW),
    )


async def test_s1_the_authorization_request() -> None:
    provider = FakeProvider()
    provider.discovery["authorization_endpoint"] += "?tenant=7"
    url, transaction = await party_of(provider).begin(CALLBACK)
    assert url.startswith(f"{ISSUER}/authorize?tenant=7&")
    sent = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(transaction.verifier.encode()).digest()).rstrip(b"=")
    assert sent == {
        "tenant": "7",
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": CALLBACK,
        "scope": "openid email",
        "state": transaction.state,
        "nonce": transaction.nonce,
        "code_challenge": challenge.decode(),
        "code_challenge_method": "S256",
    }
    assert transaction.verifier not in url
    assert 43 <= len(transaction.verifier) <= 128  # RFC 7636 section 4.1
    _, other = await party_of(provider).begin(CALLBACK)
    assert len({transaction.state, transaction.nonce, transaction.verifier, other.state, other.nonce}) == 5


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"state": None}, InvalidCallbackError),
        ({"state": "of-another-browser"}, InvalidCallbackError),
        ({"state": "\u00e9"}, InvalidCallbackError),
        ({"iss": None}, InvalidCallbackError),
        ({"iss": "https://other.test"}, InvalidCallbackError),
        ({"iss": ISSUER + "/"}, InvalidCallbackError),
        ({"iss": ""}, InvalidCallbackError),
        ({"code": None}, InvalidCallbackError),
        ({"code": ""}, InvalidCallbackError),
        ({"code": "x" * 5000}, InvalidCallbackError),
        ({"error": "access_denied", "code": None}, SignInRefusedError),
        ({"error": "<script>", "code": None}, SignInRefusedError),
        ({"error": "temporarily_unavailable", "code": None}, ProviderUnavailableError),
        # An error counts only once it is certain whose it is.
        ({"error": "access_denied", "iss": "https://other.test"}, InvalidCallbackError),
        ({"error": "access_denied", "state": "of-another-browser"}, InvalidCallbackError),
        # Both: the error wins.
        ({"error": "access_denied"}, SignInRefusedError),
    ],
)
async def test_s1_the_answer(changes: dict[str, Any], error: type[OidcError]) -> None:
    party = party_of(FakeProvider())
    _, transaction = await party.begin(CALLBACK)
    answer: dict[str, Any] = {"state": transaction.state, "code": "code", "error": None, "iss": ISSUER} | changes
    with pytest.raises(error) as caught:
        await party.code_of(transaction, **answer)
    assert "<" not in caught.value.detail


async def test_s1_a_provider_that_does_not_name_itself_need_not() -> None:
    provider = FakeProvider()
    provider.discovery["authorization_response_iss_parameter_supported"] = False
    party = party_of(provider)
    _, transaction = await party.begin(CALLBACK)
    assert await party.code_of(transaction, state=transaction.state, code="code", error=None, iss=None) == "code"
    with pytest.raises(InvalidCallbackError):  # but if it does, it must be the right name
        await party.code_of(transaction, state=transaction.state, code="code", error=None, iss="https://other.test")


async def test_s1_a_sign_in_that_began_at_another_provider() -> None:
    _, transaction = await party_of(FakeProvider("https://old.test")).begin(CALLBACK)
    with pytest.raises(InvalidCallbackError, match="another provider"):
        await party_of(FakeProvider()).code_of(transaction, state=transaction.state, code="c", error=None, iss=ISSUER)


async def finished(provider: FakeProvider, client: Client) -> None:
    party = party_of(provider, client)
    url, transaction = await party.begin(CALLBACK)
    answer = provider.authorize(url)
    await party.finish(transaction, answer["code"])


async def test_s1_a_public_client_shows_the_verifier_alone() -> None:
    provider = FakeProvider()
    await finished(provider, Client(CLIENT))
    (form,) = provider.forms
    assert form.keys() == {"grant_type", "code", "redirect_uri", "code_verifier", "client_id"}
    assert provider.headers[-2] == {}  # the last one fetched the keys


async def test_s1_a_confidential_client_by_basic() -> None:
    provider = FakeProvider()
    provider.claims = {"aud": "a:b"}
    await finished(provider, Client("a:b", Secret("s%cret +:/é")))
    assert "client_secret" not in provider.forms[0]
    sent = base64.b64decode(provider.headers[-2]["Authorization"].removeprefix("Basic ")).decode()
    assert sent == "a%3Ab:s%25cret+%2B%3A%2F%C3%A9"  # RFC 6749 section 2.3.1


async def test_s1_a_confidential_client_by_form() -> None:
    provider = FakeProvider()
    provider.discovery["token_endpoint_auth_methods_supported"] = ["private_key_jwt", "client_secret_post"]
    await finished(provider, Client(CLIENT, Secret("hush")))
    assert (provider.forms[0]["client_id"], provider.forms[0]["client_secret"]) == (CLIENT, "hush")
    assert provider.headers[-2] == {}


async def test_s5_a_code_is_taken_once() -> None:
    provider = FakeProvider()
    party = party_of(provider)
    url, transaction = await party.begin(CALLBACK)
    code = provider.authorize(url)["code"]
    await party.finish(transaction, code)
    with pytest.raises(CodeRefusedError):
        await party.finish(transaction, code)


async def test_s5_a_code_of_another_sign_in_lacks_its_verifier() -> None:
    provider = FakeProvider()
    party = party_of(provider)
    stolen, _ = await party.begin(CALLBACK)
    _, own = await party.begin(CALLBACK)
    with pytest.raises(CodeRefusedError) as caught:
        await party.finish(own, provider.authorize(stolen)["code"])
    assert "<b>" not in caught.value.detail


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"{}"),
        (200, b'{"access_token": "a", "token_type": "DPoP"}'),
        (200, b'{"access_token": 7, "token_type": "Bearer"}'),
        (200, b"\xff"),
        (200, b"[" * 100_000),
        (400, b'{"error": "invalid_client"}'),
        (401, b'{"error": "<script>alert(1)</script>"}'),
        (400, b"not json"),
        (404, b""),
    ],
)
async def test_s5_token_answers_that_cannot_be_used(status: int, body: bytes) -> None:
    provider = FakeProvider()
    provider.answers["/token"] = Answer(status, body)
    with pytest.raises(ProviderUnavailableError) as caught:
        await finished(provider, Client(CLIENT))
    assert caught.value.retry_after
    assert "<" not in caught.value.detail


async def test_where_to_sign_out_at_the_provider() -> None:
    provider = FakeProvider()
    url = await party_of(provider).end_session_url(return_to="https://homeport.test/")
    assert url == f"{ISSUER}/end?client_id={CLIENT}&post_logout_redirect_uri=https%3A%2F%2Fhomeport.test%2F"
    del provider.discovery["end_session_endpoint"]
    assert await party_of(provider).end_session_url(return_to="https://homeport.test/") is None
    provider.away = {"/.well-known/openid-configuration"}
    assert await party_of(provider).end_session_url(return_to="https://homeport.test/") is None


# The service client


async def test_the_api_gets_a_token_for_itself_and_keeps_it() -> None:
    provider, clock = FakeProvider(), FakeClock(NOW)
    client = Client("service", Secret("hush"))
    service = ServiceClient(
        party_of(provider, clock=clock).provider, client, scopes=("api",), fetcher=provider, clock=clock
    )
    first = await service.token()
    assert provider.forms[-1] == {"grant_type": "client_credentials", "scope": "api"}
    clock.advance(89)
    assert await service.token() == first
    clock.advance(2)  # 30 s before its end
    assert await service.token() != first
    assert len(provider.forms) == 2


async def test_a_token_without_an_end_is_not_kept_for_ever() -> None:
    provider, clock = FakeProvider(), FakeClock(NOW)
    provider.answers["/token"] = Answer(200, b'{"access_token": "a", "token_type": "Bearer"}')
    service = ServiceClient(
        party_of(provider, clock=clock).provider, Client("s", Secret("hush")), fetcher=provider, clock=clock
    )
    await service.token()
    clock.advance(61)
    await service.token()
    assert provider.asked.count("/token") == 2


async def test_a_service_client_has_a_secret() -> None:
    with pytest.raises(ValueError, match="secret"):
        ServiceClient(party_of(FakeProvider()).provider, Client("s"), fetcher=FakeProvider(), clock=FakeClock(NOW))


async def test_the_service_client_of_a_provider_that_is_away() -> None:
    provider, clock = FakeProvider(), FakeClock(NOW)
    provider.away = {"/token"}
    service = ServiceClient(
        party_of(provider, clock=clock).provider, Client("s", Secret("hush")), fetcher=provider, clock=clock
    )
    with pytest.raises(ProviderUnavailableError):
        await service.token()
    provider.away = set()
    assert await service.token()
