"""`/api/audit`: who reads what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api_server.audit.store import AuditStore
from api_server.db.database import Database
from common.crypto.session_tokens import SessionTokenSigner
from common.secret import Secret
from tests.api_server.audit.stage import Stage, entry
from tests.api_server.rest import ADMIN, BOTH_TEAMS, NO_TEAM, VIEWER, Api, running_api

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def api_with_log(signer: SessionTokenSigner, database: Database, folder: Path) -> AsyncIterator[Api]:
    """Entries 0 to 5: of home, away, no team, and so on."""
    stage = Stage(database, folder)
    for number in range(6):
        team = ("home", "away", None)[number % 3]
        await database.write(
            lambda tx, number=number, team=team: stage.log.record(
                tx, entry(number, team=team, action=f"a.{number % 2}")
            )
        )
    async with running_api(signer, audit=AuditStore(database)) as api:
        yield api


async def numbers(api: Api, query: str = "", token: Secret = ADMIN) -> list[int]:
    answer = await api.get(f"/api/audit{query}", token=token)
    assert answer.status_code == 200, answer.text
    return [item["seq"] - 1 for item in answer.json()["items"]]


async def test_each_reads_what_is_theirs(signer: SessionTokenSigner, database: Database, tmp_path: Path) -> None:
    async with api_with_log(signer, database, tmp_path) as api:
        assert await numbers(api) == [5, 3, 2, 0], "the administration token: its team, and what concerns none"
        assert await numbers(api, "?team=home") == [3, 0]
        assert await numbers(api, token=BOTH_TEAMS) == [4, 3, 1, 0]
        assert await numbers(api, "?team=away", token=BOTH_TEAMS) == [4, 1]
        for token, query, status, code in (
            (ADMIN, "?team=away", 404, "no_such_team"),
            (VIEWER, "", 403, "forbidden"),
            (NO_TEAM, "", 403, "forbidden"),
            (None, "", 401, "unauthenticated"),
        ):
            answer = await api.get(f"/api/audit{query}", token=token)
            assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_pages_filters_and_fields(signer: SessionTokenSigner, database: Database, tmp_path: Path) -> None:
    async with api_with_log(signer, database, tmp_path) as api:
        first = (await api.get("/api/audit?limit=3")).json()
        assert [item["seq"] for item in first["items"]] == [6, 4, 3]
        second = (await api.get(f"/api/audit?limit=3&cursor={first['next']}")).json()
        assert ([item["seq"] for item in second["items"]], second["next"]) == ([1], None)
        (oldest,) = second["items"]
        assert oldest == {
            "id": oldest["id"],
            "seq": 1,
            "time": 1_700_000_000.0,
            "actor": {"kind": "user", "id": "usr_0", "name": "Ada"},
            "team": "home",
            "action": "a.0",
            "target": {"kind": "device", "id": "dev-0"},
            "before": {"name": "one"},
            "after": {"name": "number-0"},
            "request_id": "req_0",
            "address": "192.0.2.1",
            "outcome": "done",
            "hash": oldest["hash"],
        }
        assert await numbers(api, "?action=a.1") == [5, 3]
        assert await numbers(api, "?actor=usr_2") == [2]
        assert await numbers(api, "?target=dev-4") == [], "of another team"
        assert await numbers(api, "?cursor=999999999999999999") == [5, 3, 2, 0]
        for query in ("cursor=x", "cursor=-1", "cursor=1e3", "cursor=" + "9" * 40, "cursor=%D9%A3"):
            answer = await api.get(f"/api/audit?{query}")
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), query


async def test_without_a_database_it_says_so(signer: SessionTokenSigner, database: Database, tmp_path: Path) -> None:
    async with api_with_log(signer, database, tmp_path) as api:
        await database.close()
        answer = await api.get("/api/audit")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
