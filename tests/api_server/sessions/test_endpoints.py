"""`/api/sessions`."""

from __future__ import annotations

import pytest

from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import AWAY, FakeStore, summary
from tests.api_server.rest import BOTH_TEAMS, running_api

pytestmark = pytest.mark.anyio


async def test_a_session_has_the_fields_of_the_contract(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(7))) as api:
        answer = await api.get("/api/sessions")
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json() == {
            "items": [
                {
                    "id": "ses_" + "0" * 31 + "7",
                    "device": "device-7",
                    "device_name": "device-7",
                    "team": "home",
                    "relay": "relay-1",
                    "epoch": 1,
                    "state": "healthy",
                    "connected_at": 1_700_000_000.0,
                    "last_heartbeat": 1_700_000_100.5,
                    "rtt_ms": 12.5,
                    "streams": 3,
                    "bytes_in": 1000,
                    "bytes_out": 2000,
                    "subprotocol": "homeport.v1",
                    "remote_address": "192.0.2.1",
                    "agent_version": "0.1.0",
                    "services": {"web": "healthy"},
                }
            ],
            "next": None,
        }
        assert (await api.get(f"/api/sessions/{summary(7).id}")).json() == answer.json()["items"][0]


async def test_paging_visits_each_session_once(signer: SessionTokenSigner) -> None:
    sessions = [summary(number) for number in range(25)]
    async with running_api(signer, FakeStore(*sessions)) as api:
        seen, cursor, pages = [], "", 0
        while True:
            page = (await api.get(f"/api/sessions?limit=10{cursor}")).json()
            seen += [item["id"] for item in page["items"]]
            pages += 1
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == [session.id for session in sessions]
        assert pages == 3


async def test_a_list_shows_one_team(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1), summary(2, team=AWAY))) as api:
        assert [item["team"] for item in (await api.get("/api/sessions")).json()["items"]] == ["home"]
        away = await api.get("/api/sessions?team=away", token=BOTH_TEAMS)
        assert [item["team"] for item in away.json()["items"]] == ["away"]


async def test_a_session_of_another_team_is_not_found_and_not_closed(signer: SessionTokenSigner) -> None:
    theirs = summary(2, team=AWAY)
    async with running_api(signer, FakeStore(theirs)) as api:
        for method in ("GET", "DELETE"):
            answer = await api.call(method, f"/api/sessions/{theirs.id}")
            assert (answer.status_code, answer.json()["code"]) == (404, "no_such_session")
        assert theirs.id in api.store.sessions


async def test_closing(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1))) as api:
        answer = await api.call("DELETE", f"/api/sessions/{summary(1).id}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert api.store.sessions == {}
        answer = await api.call("DELETE", f"/api/sessions/{summary(1).id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_session")


async def test_closing_only_the_epoch_that_was_meant(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1, epoch=5))) as api:
        path = f"/api/sessions/{summary(1).id}"
        answer = await api.call("DELETE", f"{path}?epoch=4")
        assert (answer.status_code, answer.json()["code"]) == (409, "session_replaced")
        assert (await api.call("DELETE", f"{path}?epoch=x")).status_code == 422
        assert (await api.call("DELETE", f"{path}?epoch=5")).status_code == 204


@pytest.mark.parametrize(
    "session_id",
    ["x", "ses_", "ses_" + "g" * 32, "ses_" + "0" * 33, "SES_" + "0" * 32, "%2e%2e", "%2Fetc", "x" * 5000],
)
async def test_what_cannot_be_an_id_is_not_asked_for(signer: SessionTokenSigner, session_id: str) -> None:
    async with running_api(signer) as api:
        for method in ("GET", "DELETE"):
            answer = await api.call(method, f"/api/sessions/{session_id}")
            assert (answer.status_code, answer.json()["code"]) == (404, "no_such_session")
        assert api.store.calls == []


async def test_head_is_get_without_a_body(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1))) as api:
        answer = await api.call("HEAD", "/api/sessions")
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["Content-Length"]) == len((await api.get("/api/sessions")).content)


async def test_a3_closing_is_written_down_and_so_is_that_it_failed(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1, epoch=5))) as api:
        path = f"/api/sessions/{summary(1).id}"
        await api.call("DELETE", f"{path}?epoch=4")
        await api.call("DELETE", path)
        await api.call("DELETE", path)
        written = [(line.action, line.target_id, line.outcome) for line in api.audit.lines]
        closed = ("device_session.closed", summary(1).id)
        assert written == [(*closed, "done"), (*closed, "refused"), (*closed, "done")]
