"""Usage: counted in memory, added up in the database by every process, and shown (T4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from api_server.auth.interfaces import Identity
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.teams.roles import Role
from api_server.usage.endpoints import UsageService
from api_server.usage.metrics import UsageMetrics
from api_server.usage.recorder import UsageRecorder
from api_server.usage.records import By, Question
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import TeamId
from tests.api_server.fakes import AWAY, HOME, FakeClock
from tests.api_server.people import PROGRAM, Home, running_domains
from tests.databases.fixtures import FreshDatabase
from tests.databases.servers import unreachable

pytestmark = pytest.mark.anyio


class Bench:
    """A recorder over a database."""

    def __init__(
        self,
        database: Database,
        *,
        most: int = 100,
        retention: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.clock, self.registry = FakeClock(), CollectorRegistry()
        self.recorder = UsageRecorder(
            database, UsageMetrics(self.registry), self.clock, most=most, retention=retention, sleep=sleep
        )
        self.service = UsageService(database, self.clock)

    def count(
        self, token: str = "tok_1", route: str = "cam/web", status: int = 200, *, team: TeamId = HOME, requests: int = 1
    ) -> None:
        who = Identity(kind="token", id=token, name=token, teams={})
        self.recorder.count(team, who, route, status, requests, 100, 1000)

    async def sums(self, *by: By, team: TeamId = HOME) -> list[tuple[object, ...]]:
        asked = Question(team=team, since=0, until=1e11, by=by)
        return [
            (*(getattr(each, name.value) for name in by), each.requests, each.bytes_in, each.bytes_out)
            for each in await self.service.page(asked, limit=1000, after=None)
        ]

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(f"homeport_usage_{name}") or 0.0


async def test_counts_are_added_up_over_writes_and_processes(database: Database) -> None:
    one, two = Bench(database), Bench(database)
    for _ in range(3):
        for bench in (one, two):
            bench.count()
            bench.count("tok_2", status=429)
            bench.count(requests=0)  # a connection that goes on
        await asyncio.gather(one.recorder.flush(), two.recorder.flush())
    assert await one.sums(By.TOKEN, By.STATUS) == [
        ("tok_1", 200, 6, 1200, 12000),
        ("tok_2", 429, 6, 600, 6000),
    ]
    assert await one.sums(By.STATUS_CLASS) == [(2, 6, 1200, 12000), (4, 6, 600, 6000)]
    assert await one.sums(By.ROUTE, team=AWAY) == []
    assert one.metric("written_total") == 6


async def test_hours_and_days(database: Database) -> None:
    bench = Bench(database)
    for _ in range(30):
        bench.count()
        bench.clock.advance(3600)
    await bench.recorder.flush()
    hours = await bench.sums(By.HOUR)
    assert len(hours) == 30
    assert hours[0][0] == 1_700_000_000 // 3600 * 3600
    assert [requests for _, requests, _, _ in await bench.sums(By.DAY)] == [2, 24, 4]


async def test_many_rows_in_one_write(database: Database) -> None:
    bench = Bench(database, most=5000)
    for number in range(1200):
        bench.count(f"tok_{number}")
    await bench.recorder.flush()
    assert len(await bench.sums(By.TOKEN)) == 1000  # a page
    assert (await bench.sums(By.STATUS))[0][1] == 1200


async def test_what_is_gathered_is_bounded_and_what_is_lost_is_counted(fresh_database: FreshDatabase) -> None:
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database:
            bench = Bench(database, most=5)
            for number in range(100):
                bench.count(f"tok_{number}")
            assert bench.metric("folded_total") == 95
            await bench.recorder.flush()
            assert (await bench.sums(By.TOKEN))[0] == ("", 95, 9500, 95000)
            for number in range(100):
                bench.count(f"tok_{number}", team=TeamId(f"team-{number}"))
            assert bench.metric("lost_total") == 90
            await bench.recorder.flush()
            assert bench.metric("written_total") == 110


async def test_a_long_name_is_cut(database: Database) -> None:
    bench = Bench(database)
    bench.count("t" * 300, "r" * 300)
    await bench.recorder.flush()
    assert (await bench.sums(By.TOKEN, By.ROUTE))[0][:2] == ("t" * 64, "r" * 100)


async def test_nothing_is_lost_while_the_database_is_away(fresh_database: FreshDatabase) -> None:
    with fresh_database(Kind.POSTGRESQL) as url:
        async with Database.connect(url, deadline=5) as database:
            bench = Bench(database)
            bench.count()
            with unreachable(url):
                await bench.recorder.flush()
                assert bench.metric("write_failures_total") == 1
                assert bench.metric("waiting") == 1
                bench.count()
                bench.count("tok_2")
            await bench.recorder.flush()
            assert await bench.sums(By.TOKEN) == [("tok_1", 2, 200, 2000), ("tok_2", 1, 100, 1000)]


async def test_old_usage_goes(fresh_database: FreshDatabase) -> None:
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database:
            slept = asyncio.Event()

            async def once(_seconds: float) -> None:
                if slept.is_set():
                    await asyncio.get_running_loop().create_future()
                slept.set()

            bench = Bench(database, retention=2 * 3600, sleep=once)
            for _ in range(5):
                bench.count()
                bench.clock.advance(3600)
            running = asyncio.ensure_future(bench.recorder.run())
            async with asyncio.timeout(20):
                while len(await bench.sums(By.HOUR)) != 2:
                    await asyncio.sleep(0.01)
            running.cancel()


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        bench = Bench(database)
        for number in range(3):
            bench.count(f"tok_{number}", f"cam-{number}/web")
            bench.count(f"tok_{number}", "", 502)
        await bench.recorder.flush()
        yield running


@pytest.fixture
async def one_home(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    """On SQLite: for what never gets as far as the database."""
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database, running_domains(database, signer) as running:
            yield running


async def test_it_is_shown_by_pages(home: Home) -> None:
    dev = await home.person("dev", home=Role.DEVELOPER)
    seen: list[dict[str, object]] = []
    cursor: str | None = None
    query = {"by": "token,route,status_class,hour", "from": "0", "limit": "4"}
    for _ in range(2):
        page = (
            await home.call("GET", "/api/usage", dev, params={**query, **({"cursor": cursor} if cursor else {})})
        ).json()
        seen += page["items"]
        cursor = page["next"]
    assert cursor is None
    assert len(seen) == 6
    hour = 1_700_000_000 // 3600 * 3600
    assert seen[0] == {
        "hour": hour,
        "token": "tok_0",
        "route": "",
        "status_class": 5,
        "requests": 1,
        "bytes_in": 100,
        "bytes_out": 1000,
    }
    whole = (await home.call("GET", "/api/usage", dev, params={"by": "status"})).json()["items"]
    assert [(each["status"], each["requests"]) for each in whole] == [(200, 3), (502, 3)]
    one = (await home.call("GET", "/api/usage", dev, params={"token": "tok_1", "route": "cam-1/web"})).json()["items"]
    assert [each["requests"] for each in one] == [1]
    assert (await home.call("GET", "/api/usage", dev, params={"to": "1000"})).json()["items"] == []
    assert (await home.call("GET", "/api/usage", dev, params={"status": 0})).json()["items"] == []


async def test_a2_another_teams_usage_is_not_there(home: Home) -> None:
    await home.team(AWAY)
    zoe = await home.person("zoe", away=Role.ADMIN)
    assert (await home.call("GET", "/api/usage", zoe)).json()["items"] == []
    answer = await home.call("GET", "/api/usage", zoe, params={"team": "home"})
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_team")


@pytest.mark.parametrize(
    "query",
    [
        {"by": ""},
        {"by": "nothing"},
        {"by": "hour,hour"},
        {"by": "team_id"},
        {"from": "yesterday"},
        {"from": "-1"},
        {"to": "inf"},
        {"status": "600"},
        {"cursor": "%%%"},
        {"cursor": "W10"},
        {"cursor": "WyJ4Il0"},  # ["x"], where a number belongs
        {"cursor": "WzFlMTBd"},
        {"since": "1"},
    ],
)
async def test_hostile_questions_are_422(one_home: Home, query: dict[str, str]) -> None:
    answer = await one_home.call("GET", "/api/usage", PROGRAM, params=query)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "validation_failed"


async def test_a_deleted_teams_usage_goes(home: Home) -> None:
    await home.team(AWAY)
    bench = Bench(home.database)
    bench.count(team=AWAY)
    await bench.recorder.flush()
    assert len(await bench.sums(By.TOKEN, team=AWAY)) == 1
    assert (await home.call("DELETE", f"/api/teams/{AWAY}", home.people["hp_admin-of-away"])).status_code == 204
    assert await bench.sums(By.TOKEN, team=AWAY) == []
