"""S3: what is checked of a logout token (OpenID Connect Back-Channel Logout section 2.6)."""

from __future__ import annotations

from typing import Any

import pytest

from api_server.auth.oidc import Client, LogoutClaims, RelyingParty
from api_server.auth.oidc.errors import InvalidLogoutTokenError
from tests.api_server.auth.oidc.provider import CLIENT, EVENT, ISSUER, NOW, FakeProvider, ec_key, unsigned
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio


async def read(provider: FakeProvider, token: str) -> LogoutClaims:
    return await RelyingParty(
        provider.issuer, Client(CLIENT), scopes=(), fetcher=provider, clock=FakeClock(NOW)
    ).logout_of(token)


async def test_s3_a_token_that_holds() -> None:
    provider = FakeProvider()
    assert await read(provider, provider.logout_token()) == LogoutClaims(
        issuer=ISSUER,
        subject="person-1",
        provider_session="provider-session-1",
        token_id="logout-1",
        expires_at=NOW + 420,
    )


@pytest.mark.parametrize(
    ("claims", "word"),
    [
        ({"iss": "https://other.test"}, "iss"),
        ({"aud": "another-client"}, "aud"),
        ({"aud": ["another-client"]}, "aud"),
        ({"iat": NOW - 361}, "iat"),
        ({"iat": NOW + 61}, "iat"),
        ({"exp": NOW - 61}, "exp"),
        ({"events": {}}, "events"),
        ({"events": {EVENT: None}}, "events"),
        ({"events": {EVENT: "x"}}, "events"),
        ({"events": {EVENT: []}}, "events"),
        ({"events": {"http://schemas.openid.net/event/other": {}}}, "events"),
        ({"events": [EVENT]}, "events"),
        ({"nonce": "n"}, "nonce"),
        ({"nonce": ""}, "nonce"),
        ({"nonce": 0}, "nonce"),
        ({"sub": None, "sid": None}, "sub, sid"),
        ({"sub": "", "sid": None}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sid": "x" * 256}, "sid"),
        ({"sid": "a\0b"}, "sid"),
        ({"jti": "a\0b"}, "jti"),
        ({"jti": None}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": "x" * 256}, "jti"),
        ({"iss": None}, "iss"),
        ({"aud": None}, "aud"),
        ({"iat": None}, "iat"),
        ({"events": None}, "events"),
    ],
)
async def test_s3_each_claim_is_checked(claims: dict[str, Any], word: str) -> None:
    provider = FakeProvider()
    with pytest.raises(InvalidLogoutTokenError) as caught:
        await read(provider, provider.logout_token(**claims))
    assert word in caught.value.detail


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None},
        {"sid": None},
        {"aud": [CLIENT, "another-client"]},
        {"exp": None},
        {"events": {EVENT: {"a": 1}, "other": {}}},
        {"iat": NOW - 300},
    ],
)
async def test_s3_what_may_differ(claims: dict[str, Any]) -> None:
    provider = FakeProvider()
    assert await read(provider, provider.logout_token(**claims))


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "at+jwt", "logout", ""])
async def test_s3_its_type_says_what_it_is(typ: str | None) -> None:
    provider = FakeProvider()
    with pytest.raises(InvalidLogoutTokenError, match="another type"):
        await read(provider, provider.logout_token(header={"typ": typ}))


@pytest.mark.parametrize("typ", ["logout+jwt", "LOGOUT+JWT", "application/logout+jwt"])
async def test_s3_its_type_in_other_words(typ: str) -> None:
    provider = FakeProvider()
    assert await read(provider, provider.logout_token(header={"typ": typ}))


async def test_s3_an_id_token_is_no_logout_token() -> None:
    provider = FakeProvider()
    with pytest.raises(InvalidLogoutTokenError):
        await read(provider, provider.made_id_token("nonce"))


async def test_s5_a_token_that_nobody_signed() -> None:
    provider = FakeProvider()
    claims = {"iss": ISSUER, "aud": CLIENT, "iat": NOW, "jti": "j", "sub": "person-1", "events": {EVENT: {}}}
    for alg in ("none", "HS256"):
        with pytest.raises(InvalidLogoutTokenError):
            await read(provider, unsigned({"alg": alg, "typ": "logout+jwt"}, claims))
    provider.key = ec_key("attacker")
    with pytest.raises(InvalidLogoutTokenError):
        await read(provider, provider.logout_token())
