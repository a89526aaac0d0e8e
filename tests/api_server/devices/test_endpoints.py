"""`/api/devices/{id}/session-tokens`."""

from __future__ import annotations

import re

import pytest

from common.crypto.session_tokens import SessionTokenSigner, SessionTokenVerifier
from tests.api_server.fakes import AWAY, HOME
from tests.api_server.rest import BOTH_TEAMS, running_api

pytestmark = pytest.mark.anyio

PATH = "/api/devices/front-door/session-tokens"


async def test_an_issued_token_says_what_was_asked_for(
    signer: SessionTokenSigner, verifier: SessionTokenVerifier
) -> None:
    async with running_api(signer) as api:
        answer = await api.call("POST", PATH, json={"expires_in": 600, "service": "camera"})
        assert answer.status_code == 201
        issued = answer.json()
        assert issued.keys() == {"id", "session_token", "expires_at", "tunnel_url"}
        assert issued["tunnel_url"] == "ws://relay/tunnel"
        assert issued["expires_at"] == api.clock.wall() + 600
        claims = verifier.verify(issued["session_token"], api.clock.wall())
        assert (claims.device, claims.device_name, claims.team) == ("front-door", "front-door", HOME)
        assert (claims.service, claims.expires_at) == ("camera", issued["expires_at"])
        assert claims.credential == issued["id"]
        assert re.fullmatch("crd_[0-9a-f]{32}", issued["id"])


async def test_defaults_are_those_of_the_settings(signer: SessionTokenSigner, verifier: SessionTokenVerifier) -> None:
    async with running_api(signer) as api:
        issued = (await api.call("POST", PATH)).json()
        claims = verifier.verify(issued["session_token"], api.clock.wall())
        assert (claims.expires_at - claims.issued_at, claims.service) == (3600, None)


async def test_each_token_is_a_credential_of_its_own(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        first, second = [(await api.call("POST", PATH)).json() for _ in range(2)]
        assert first["id"] != second["id"]


async def test_a_token_is_of_the_team_that_was_named(
    signer: SessionTokenSigner, verifier: SessionTokenVerifier
) -> None:
    async with running_api(signer) as api:
        issued = (await api.call("POST", f"{PATH}?team=away", token=BOTH_TEAMS)).json()
        assert verifier.verify(issued["session_token"], api.clock.wall()).team == AWAY


@pytest.mark.parametrize("device", ["Front", "a--b", "-a", "a-", "a_b", "a.b", "x" * 41, "%2e%2e", "a%20b", "%C3%A4"])
async def test_what_cannot_be_a_device_is_not_found(signer: SessionTokenSigner, device: str) -> None:
    async with running_api(signer) as api:
        answer = await api.call("POST", f"/api/devices/{device}/session-tokens")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_device")
        answer = await api.call("DELETE", f"/api/devices/{device}/session-tokens/crd_{'0' * 32}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_device")


async def test_a_token_is_in_no_log_line(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        issued = (await api.call("POST", PATH)).json()
        assert issued["session_token"] not in api.logs.getvalue()
        assert "front-door" in api.logs.getvalue(), "the request is"


async def test_revoking_tells_the_relay_within_the_call(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        issued = (await api.call("POST", PATH)).json()
        answer = await api.call("DELETE", f"{PATH}/{issued['id']}")
        assert (answer.status_code, answer.content) == (204, b"")
        ((team, credential, expires_at),) = api.relay.revoked
        assert (team, credential) == (HOME, issued["id"])
        assert expires_at >= issued["expires_at"]


async def test_a_revocation_that_did_not_arrive_is_an_error(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        api.relay.away = True
        answer = await api.call("DELETE", f"{PATH}/crd_{'0' * 32}")
        assert (answer.status_code, answer.json()["code"]) == (502, "relay_unavailable")


@pytest.mark.parametrize("token_id", ["x", "crd_", "crd_" + "G" * 32, "%2e%2e", "crd_" + "0" * 33])
async def test_what_cannot_be_the_id_of_a_token_is_refused(signer: SessionTokenSigner, token_id: str) -> None:
    async with running_api(signer) as api:
        answer = await api.call("DELETE", f"{PATH}/{token_id}")
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
        assert api.relay.revoked == []
