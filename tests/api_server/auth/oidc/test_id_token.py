"""S1: what is checked of an ID token, each by a provider that gets that one thing wrong."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from api_server.auth.oidc import Client, Person, RelyingParty
from api_server.auth.oidc.errors import InvalidIdTokenError
from tests.api_server.auth.oidc.provider import (
    CLIENT,
    ISSUER,
    NOW,
    FakeProvider,
    compact,
    ec_key,
    okp_key,
    rsa_key,
)
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio

CALLBACK = "https://homeport.test/api/auth/callback"


async def sign_in(provider: FakeProvider) -> Person:
    party = RelyingParty(provider.issuer, Client(CLIENT), scopes=("email",), fetcher=provider, clock=FakeClock(NOW))
    url, transaction = await party.begin(CALLBACK)
    answer = provider.authorize(url)
    code = await party.code_of(transaction, state=answer["state"], code=answer["code"], error=None, iss=answer["iss"])
    return await party.finish(transaction, code)


async def refusal(provider: FakeProvider) -> str:
    with pytest.raises(InvalidIdTokenError) as caught:
        await sign_in(provider)
    return caught.value.detail


async def test_s1_a_token_that_holds() -> None:
    assert await sign_in(FakeProvider()) == Person(
        issuer=ISSUER,
        subject="person-1",
        name="Ada Lovelace",
        email="ada@example.org",
        email_verified=True,
        provider_session="provider-session-1",
    )


@pytest.mark.parametrize(
    ("claims", "claim"),
    [
        ({"iss": "https://other.test"}, "iss"),
        ({"iss": ISSUER + "/"}, "iss"),
        ({"iss": ISSUER.upper()}, "iss"),
        ({"aud": "another-client"}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": ["another-client", "third"]}, "aud"),
        ({"aud": CLIENT + " "}, "aud"),
        ({"aud": [CLIENT, "another-client"]}, "azp"),
        ({"aud": [CLIENT, "another-client"], "azp": "another-client"}, "azp"),
        ({"azp": "another-client"}, "azp"),
        ({"exp": NOW - 61}, "exp"),
        ({"iat": NOW - 700}, "iat"),
        ({"iat": NOW + 61}, "iat"),
        ({"nbf": NOW + 61}, "nbf"),
        ({"nonce": None}, "nonce"),
        ({"nonce": ""}, "nonce"),
        ({"nonce": "of-another-sign-in"}, "nonce"),
        ({"at_hash": "AAAA"}, "at_hash"),
        ({"sub": ""}, "sub"),
        ({"sub": "x" * 256}, "sub"),
        ({"sid": "x" * 256}, "sid"),
        ({"sid": "a\0b"}, "sid"),
        ({"sub": "a\0b"}, "sub"),
        # Missing, or of another type than it must be.
        ({"iss": None}, "iss"),
        ({"aud": None}, "aud"),
        ({"exp": None}, "exp"),
        ({"iat": None}, "iat"),
        ({"sub": None}, "sub"),
        ({"exp": "later"}, "exp"),
        ({"exp": -1}, "exp"),
        ({"iat": True}, "iat"),
        ({"aud": [CLIENT, 7]}, "aud"),
        ({"sub": 7}, "sub"),
        ({"nonce": ["a"]}, "nonce"),
    ],
)
async def test_s1_each_claim_is_checked(claims: dict[str, Any], claim: str) -> None:
    provider = FakeProvider()
    provider.claims = claims
    assert claim in await refusal(provider)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [CLIENT]},
        {"aud": [CLIENT, "another-client"], "azp": CLIENT},
        {"azp": CLIENT},
        {"exp": NOW - 59},
        {"iat": NOW + 59},
        {"iat": NOW - 600},
        {"exp": NOW + 300.5},
        {"sub": "x" * 255},
        {"unknown": {"deep": [1]}},
    ],
)
async def test_s1_what_may_differ(claims: dict[str, Any]) -> None:
    provider = FakeProvider()
    provider.claims = claims
    assert (await sign_in(provider)).name == "Ada Lovelace"


@pytest.mark.parametrize(
    ("key", "alg", "digest"),
    [
        (rsa_key(), "RS256", hashlib.sha256),
        (rsa_key(), "PS256", hashlib.sha256),
        (ec_key(), "ES256", hashlib.sha256),
        (ec_key("p384", "P-384"), "ES384", hashlib.sha384),
        (okp_key(), "EdDSA", hashlib.sha512),
    ],
)
async def test_s1_every_algorithm_with_its_own_hash_of_the_access_token(key: Any, alg: str, digest: Any) -> None:
    provider = FakeProvider()
    provider.key, provider.alg = key, alg
    provider.published = [dict(key.as_dict(private=False))]
    half = digest(b"access").digest()
    provider.claims = {"at_hash": base64.urlsafe_b64encode(half[: len(half) // 2]).rstrip(b"=").decode()}
    assert (await sign_in(provider)).subject == "person-1"


async def test_s1_a_token_of_another_type_is_none() -> None:
    provider = FakeProvider()
    for typ in ("logout+jwt", "at+jwt", "application/logout+jwt", "JOSE"):
        provider.header = {"typ": typ}
        assert "type" in await refusal(provider), typ
    for typ in ("JWT", "application/jwt"):
        provider.header = {"typ": typ}
        assert await sign_in(provider)


async def test_s1_no_token_at_all() -> None:
    provider = FakeProvider()
    provider.id_token = ""
    assert "compact form" in await refusal(provider)


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{", b'{"iss": ', b"\xff", b'"text"', b"[" * 5000])
async def test_s1_a_payload_that_is_no_claims(payload: bytes) -> None:
    provider = FakeProvider()
    provider.id_token = compact(payload, ec_key(), "ES256", kid="ec")
    assert await refusal(provider)


# Who it is


@pytest.mark.parametrize(
    ("person", "name", "email", "verified"),
    [
        ({"name": " Ada \n Lovelace "}, "Ada Lovelace", "ada@example.org", True),
        ({"name": None, "preferred_username": "ada"}, "ada", "ada@example.org", True),
        ({"name": None}, "ada@example.org", "ada@example.org", True),
        ({"name": 7, "email": ["a@b"]}, "person-1", None, False),
        ({"name": "\u202egnp.exe", "email": "no-address"}, "person-1", None, False),
        ({"name": "x" * 201}, "ada@example.org", "ada@example.org", True),
        ({"email_verified": "true"}, "Ada Lovelace", "ada@example.org", True),
        ({"email_verified": "yes"}, "Ada Lovelace", "ada@example.org", False),
        ({"email_verified": None}, "Ada Lovelace", "ada@example.org", False),
    ],
)
async def test_names_and_addresses(person: dict[str, Any], name: str, email: str | None, verified: bool) -> None:
    provider = FakeProvider()
    provider.claims = person
    provider.userinfo = {"sub": "person-1"}
    found = await sign_in(provider)
    assert (found.name, found.email, found.email_verified) == (name, email, verified)


async def test_what_the_token_does_not_tell_is_asked_of_userinfo() -> None:
    provider = FakeProvider()
    provider.claims = {"name": None, "email": None}
    provider.userinfo = {"sub": "person-1", "name": "Ada", "email": "ada@example.org", "email_verified": True}
    found = await sign_in(provider)
    assert (found.name, found.email, found.email_verified) == ("Ada", "ada@example.org", True)
    assert provider.headers[-1] == {"Authorization": "Bearer access"}


async def test_one_address_is_not_vouched_for_by_another_source() -> None:
    provider = FakeProvider()
    provider.claims = {"name": None, "email_verified": None}
    provider.userinfo = {"sub": "person-1", "email": "other@example.org", "email_verified": True}
    found = await sign_in(provider)
    assert (found.email, found.email_verified) == ("ada@example.org", False)


async def test_s1_userinfo_about_somebody_else_is_refused() -> None:
    provider = FakeProvider()
    provider.claims = {"name": None}
    provider.userinfo = {"sub": "person-2", "name": "Eve"}
    assert "userinfo" in await refusal(provider)
