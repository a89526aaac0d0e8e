"""`/api/auth/me`."""

from __future__ import annotations

import pytest

from api_server.auth.interfaces import INSTALLATION_ACTIONS
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.rest import ADMIN, BOTH_TEAMS, VIEWER, running_api

pytestmark = pytest.mark.anyio


async def test_the_administrator(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        me = (await api.get("/api/auth/me")).json()
        assert (me["kind"], me["name"], me["id"]) == ("token", "administration token", ADMIN.reveal()[:9])
        assert me["installation"] == sorted(INSTALLATION_ACTIONS)
        (team,) = me["teams"]
        assert (team["id"], team["name"], team["role"]) == ("home", "Team home", None)
        assert "gateway.call" in team["actions"]
        assert (me["user"], me["session"], me["csrf_token"]) == (None, None, None)


async def test_others(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        me = (await api.get("/api/auth/me", token=VIEWER)).json()
        assert [(team["id"], team["actions"]) for team in me["teams"]] == [("home", ["sessions.read"])]
        assert me["installation"] == []
        both = (await api.get("/api/auth/me", token=BOTH_TEAMS)).json()["teams"]
        assert [team["id"] for team in both] == ["away", "home"]
