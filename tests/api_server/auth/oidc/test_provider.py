"""A provider's description and keys: kept, refreshed, and what a provider in trouble costs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api_server.auth.oidc.answer import Answer
from api_server.auth.oidc.errors import InvalidLogoutTokenError, ProviderUnavailableError
from api_server.auth.oidc.provider import Provider
from tests.api_server.auth.oidc.provider import ISSUER, NOW, FakeProvider, ec_key, rsa_key
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio

DISCOVERY = "/.well-known/openid-configuration"


def opened(fake: FakeProvider) -> tuple[Provider, FakeClock]:
    clock = FakeClock(NOW)
    return Provider(fake.issuer, fake, clock), clock


async def verified(provider: Provider, token: str) -> bytes:
    return (await provider.verified(token, error=InvalidLogoutTokenError, types=("logout+jwt",))).payload


async def test_each_document_is_fetched_once() -> None:
    fake = FakeProvider()
    provider, _ = opened(fake)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(verified(provider, fake.logout_token()))
    assert fake.asked == [DISCOVERY, "/jwks"]


async def test_keys_and_description_are_fetched_anew_when_they_are_old() -> None:
    fake = FakeProvider()
    provider, clock = opened(fake)
    await verified(provider, fake.logout_token())
    clock.advance(599)
    await verified(provider, fake.logout_token())
    assert len(fake.asked) == 2
    clock.advance(2)
    await verified(provider, fake.logout_token())
    assert fake.asked[2:] == ["/jwks"]
    clock.advance(3600)
    await verified(provider, fake.logout_token())
    assert fake.asked[3:] == [DISCOVERY, "/jwks"]


async def test_an_unknown_key_fetches_the_keys_once_in_half_a_minute() -> None:
    fake = FakeProvider()
    provider, clock = opened(fake)
    await verified(provider, fake.logout_token())
    fake.key, fake.alg = rsa_key("new"), "RS256"
    fake.published.append(dict(fake.key.as_dict(private=False)))
    with pytest.raises(InvalidLogoutTokenError, match="no key"):
        await verified(provider, fake.logout_token())  # the keys were fetched just now
    assert fake.asked.count("/jwks") == 1
    clock.advance(31)
    assert await verified(provider, fake.logout_token())
    assert fake.asked.count("/jwks") == 2
    fake.key = rsa_key("never-published")
    for _ in range(50):
        with pytest.raises(InvalidLogoutTokenError, match="no key"):
            await verified(provider, fake.logout_token())
    assert fake.asked.count("/jwks") == 2


async def test_many_with_an_unknown_key_ask_once() -> None:
    fake = FakeProvider()
    provider, clock = opened(fake)
    await verified(provider, fake.logout_token())
    clock.advance(31)
    fake.key, fake.alg = rsa_key("new"), "RS256"
    fake.published.append(dict(fake.key.as_dict(private=False)))
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(verified(provider, fake.logout_token()))
    assert fake.asked.count("/jwks") == 2


async def test_a_key_that_was_withdrawn_verifies_no_more() -> None:
    fake = FakeProvider()
    provider, clock = opened(fake)
    stolen = fake.logout_token()
    await verified(provider, stolen)
    fake.published = [dict(ec_key("new").as_dict(private=False))]
    clock.advance(601)
    with pytest.raises(InvalidLogoutTokenError):
        await verified(provider, stolen)


async def test_old_keys_are_served_for_an_hour_when_there_are_no_new_ones() -> None:
    fake = FakeProvider()
    provider, clock = opened(fake)
    await verified(provider, fake.logout_token())
    fake.away = {"/jwks"}
    clock.advance(3599)
    assert await verified(provider, fake.logout_token())
    clock.advance(10)
    with pytest.raises(ProviderUnavailableError):
        await verified(provider, fake.logout_token())


async def test_an_old_description_is_served_for_a_day() -> None:
    fake = FakeProvider()
    provider, clock = opened(fake)
    await provider.metadata()
    fake.away = {DISCOVERY}
    clock.advance(23 * 3600)
    assert (await provider.metadata()).issuer == ISSUER
    clock.advance(3700)
    with pytest.raises(ProviderUnavailableError):
        await provider.metadata()


async def test_a_failure_is_remembered_for_some_seconds_and_says_when_to_come_back() -> None:
    fake = FakeProvider()
    provider, clock = opened(fake)
    fake.away = {DISCOVERY}
    for _ in range(20):
        with pytest.raises(ProviderUnavailableError) as caught:
            await provider.metadata()
        assert caught.value.retry_after == 7
    assert fake.asked == [DISCOVERY]
    fake.away = set()
    with pytest.raises(ProviderUnavailableError):
        await provider.metadata()
    clock.advance(6)
    assert (await provider.metadata()).issuer == ISSUER


async def test_whoever_gives_up_does_not_stop_the_others() -> None:
    fake = FakeProvider()
    provider, _ = opened(fake)
    first = asyncio.create_task(provider.metadata())
    second = asyncio.create_task(provider.metadata())
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).issuer == ISSUER


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, b"{}"),
        Answer(200, b""),
        Answer(200, b"<html>"),
        Answer(200, b'{"keys": []}'),
        Answer(200, b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'),
        Answer(204, b""),
        Answer(401, b""),
    ],
)
async def test_s5_keys_that_cannot_be_used(answer: Answer) -> None:
    fake = FakeProvider()
    provider, _ = opened(fake)
    fake.answers["/jwks"] = answer
    with pytest.raises(ProviderUnavailableError):
        await verified(provider, fake.logout_token())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"issuer": "https://other.test"}, "issuer"),
        ({"issuer": ISSUER + "/"}, "issuer"),
        ({"issuer": None}, "issuer"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"jwks_uri": None}, "jwks_uri"),
        ({"authorization_endpoint": 7}, "authorization_endpoint"),
        ({"token_endpoint": "http://provider.test/token"}, "token_endpoint"),
        ({"jwks_uri": "http://provider.test/jwks"}, "jwks_uri"),
        ({"jwks_uri": "file:///etc/passwd"}, "jwks_uri"),
        # Ours, not theirs: a provider elsewhere must not make us ask our own machine.
        ({"jwks_uri": "http://127.0.0.1:3801/internal/sessions"}, "jwks_uri"),
        ({"jwks_uri": "https://127.0.0.1/jwks"}, "jwks_uri"),
        ({"userinfo_endpoint": "https://localhost/userinfo"}, "userinfo_endpoint"),
        ({"userinfo_endpoint": "https://[::1]/userinfo"}, "userinfo_endpoint"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "authorization_endpoint"),
        ({"authorization_endpoint": "https://user:pass@provider.test/"}, "authorization_endpoint"),
        ({"authorization_endpoint": "https://provider.test/#x"}, "authorization_endpoint"),
        ({"end_session_endpoint": "https://provider.test/\r\nSet-Cookie: a=b"}, "end_session_endpoint"),
        ({"end_session_endpoint": "//provider.test/"}, "end_session_endpoint"),
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE"),
        ({"id_token_signing_alg_values_supported": ["none", "HS256"]}, "algorithm"),
    ],
)
async def test_s5_a_description_that_cannot_be_used(changes: dict[str, Any], word: str) -> None:
    fake = FakeProvider()
    fake.discovery = {key: value for key, value in (fake.discovery | changes).items() if value is not None}
    provider, _ = opened(fake)
    with pytest.raises(ProviderUnavailableError, match=word):
        await provider.metadata()


@pytest.mark.parametrize("document", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000])
async def test_s5_a_description_that_is_none(document: bytes) -> None:
    fake = FakeProvider()
    fake.answers[DISCOVERY] = Answer(200, document)
    provider, _ = opened(fake)
    with pytest.raises(ProviderUnavailableError):
        await provider.metadata()


async def test_what_providers_leave_out() -> None:
    """Entra says nothing of PKCE, Google nothing of a page to sign out at, and a small one nothing of algorithms."""
    fake = FakeProvider()
    for name in (
        "code_challenge_methods_supported",
        "end_session_endpoint",
        "userinfo_endpoint",
        "id_token_signing_alg_values_supported",
        "authorization_response_iss_parameter_supported",
    ):
        del fake.discovery[name]
    provider, _ = opened(fake)
    metadata = await provider.metadata()
    assert metadata.algorithms == ("RS256",)
    assert metadata.token_endpoint_auth_methods_supported == ("client_secret_basic",)


async def test_a_provider_on_this_machine_may_speak_http() -> None:
    fake = FakeProvider("http://127.0.0.1:4000")
    provider, _ = opened(fake)
    assert (await provider.metadata()).token_endpoint == "http://127.0.0.1:4000/token"


async def test_s1_a_token_signed_with_what_the_provider_does_not_say_is_refused() -> None:
    fake = FakeProvider()
    fake.discovery["id_token_signing_alg_values_supported"] = ["RS256"]
    provider, _ = opened(fake)
    with pytest.raises(InvalidLogoutTokenError, match="algorithm"):
        await verified(provider, fake.logout_token())
