"""`/api/auth/me`."""

from __future__ import annotations

import pytest

from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.rest import ADMIN, BOTH_TEAMS, VIEWER, running_api

pytestmark = pytest.mark.anyio


async def test_the_administrator(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        me = (await api.get("/api/auth/me")).json()
        assert (me["kind"], me["name"], me["id"]) == ("token", "administration token", ADMIN.reveal()[:9])
        assert me["installation"] == ["audit.read_installation", "metrics.read", "users.disable"]
        assert list(me["teams"]) == ["home"]
        assert "gateway.call" in me["teams"]["home"]


async def test_others(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        me = (await api.get("/api/auth/me", token=VIEWER)).json()
        assert (me["teams"], me["installation"]) == ({"home": ["sessions.read"]}, [])
        assert list((await api.get("/api/auth/me", token=BOTH_TEAMS)).json()["teams"]) == ["away", "home"]
