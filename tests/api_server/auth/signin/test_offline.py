"""Offline tokens that come with a sign-in."""

from __future__ import annotations

from typing import Any

import pytest

from api_server.auth.oidc import Client, RelyingParty
from api_server.auth.signin.interfaces import UserRecord, Visit
from api_server.db.errors import DatabaseUnavailableError
from common.crypto.session_tokens import SessionTokenSigner
from common.secret import Secret
from tests.api_server.auth.oidc.provider import CLIENT, NOW, FakeProvider
from tests.api_server.auth.signin.stage import parameters, staged
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio


class Keeper:
    """Keeps them, or fails to."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self.away = False

    async def keep(
        self, user: UserRecord, token: Secret, *, expires_at: float, scopes: tuple[str, ...], visit: Visit
    ) -> None:
        if self.away:
            raise DatabaseUnavailableError
        self.kept.append({"user": user.id, "token": token, "expires_at": expires_at, "scopes": scopes})


async def test_one_that_comes_is_kept_if_somebody_wants_it(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        keeper = Keeper()
        stage.provider.more_tokens = {"refresh_token": "c4nary", "refresh_expires_in": 600, "scope": "openid email"}
        browser = await stage.browser()
        assert (await browser.sign_in()).status_code == 303
        assert not keeper.kept
        stage.service.keep_offline_tokens(keeper)
        assert (await browser.sign_in()).status_code == 303
        (kept,) = keeper.kept
        assert kept == {
            "user": (await browser.me())["id"],
            "token": Secret("c4nary"),
            "expires_at": NOW + 600,
            "scopes": ("openid", "email"),
        }
        stage.provider.more_tokens = {}
        assert (await browser.sign_in()).status_code == 303
        assert len(keeper.kept) == 1


async def test_that_it_cannot_be_kept_keeps_nobody_from_signing_in(
    signer: SessionTokenSigner, capfd: pytest.CaptureFixture[str]
) -> None:
    async with staged(signer) as stage:
        keeper = Keeper()
        keeper.away = True
        stage.service.keep_offline_tokens(keeper)
        stage.provider.more_tokens = {"refresh_token": "c4nary"}
        browser = await stage.browser()
        assert (await browser.sign_in()).status_code == 303
        assert await browser.is_signed_in()
    captured = capfd.readouterr()
    assert "c4nary" not in captured.out + captured.err


@pytest.mark.parametrize("offline", [False, True])
async def test_it_is_asked_for_only_where_the_setting_says_so(offline: bool) -> None:
    provider = FakeProvider()
    party = RelyingParty(
        provider.issuer, Client(CLIENT), scopes=("email",), fetcher=provider, clock=FakeClock(NOW), offline=offline
    )
    url, _ = await party.begin("https://home.test/api/auth/callback")
    asked = parameters(url)
    assert ("offline_access" in asked["scope"].split()) is offline
    assert asked.get("prompt") == ("consent" if offline else None)
