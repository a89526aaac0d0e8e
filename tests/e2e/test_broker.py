"""The broker on four API processes that share a database: one call to the provider, whoever asks (B1), and what is left
when a process is killed at the worst of moments (B5).
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from api_server.db.engine import Kind
from tests.databases.fixtures import FreshDatabase
from tests.stack.homeport import Api, Keys, api, relay
from tests.stack.provider import TokenProvider, token_provider

pytestmark = pytest.mark.anyio

PROCESSES = 4
CALLERS = 1000
TOKEN = "/api/token?realm=r&key=k"


@contextmanager
def processes(folder: Path, url: str) -> Iterator[tuple[list[Api], dict[str, str]]]:
    """API servers over one database and one relay, and the header that shows the token."""
    keys = Keys.make(folder)
    environment = {"HOMEPORT_DATABASE_URL": url, "HOMEPORT_ALLOW_PRIVATE_TARGETS": "127.0.0.1"}
    with ExitStack() as stack:
        to = stack.enter_context(relay(folder, keys))
        servers = []
        for number in range(PROCESSES):
            own = folder / f"api-{number}"
            own.mkdir()
            servers.append(stack.enter_context(api(own, keys, to, environment=environment)))
        yield servers, {"Authorization": f"Bearer {keys.admin_token}"}


@contextmanager
def writers_held_up(url: str) -> Iterator[None]:
    """Nobody else can write to the table of tokens."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(parsed.database or "", isolation_level=None, timeout=30)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("ROLLBACK")
        return
    where = f"host={parsed.query['host']} user=postgres dbname={parsed.database}"
    with psycopg.connect(where) as connection:
        connection.execute("LOCK TABLE realm_tokens IN EXCLUSIVE MODE")
        yield
        connection.rollback()


async def storm(servers: list[Api], header: dict[str, str]) -> Counter[tuple[int, str]]:
    """Everybody asks at once; what they got."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(headers=header, connector=connector, timeout=timeout) as session:

        async def ask(server: Api) -> tuple[int, str]:
            async with session.get(server.api + TOKEN) as answer:
                return answer.status, (await answer.json())["token"]

        return Counter(await asyncio.gather(*(ask(servers[number % len(servers)]) for number in range(CALLERS))))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", [Kind.SQLITE, Kind.POSTGRESQL], ids=lambda kind: kind.name.lower())
async def test_b1_b5_four_processes(tmp_path: Path, fresh_database: FreshDatabase, kind: Kind) -> None:
    with fresh_database(kind) as url, token_provider() as provider, processes(tmp_path, url) as (servers, header):
        async with httpx.AsyncClient(headers=header, trust_env=False, timeout=120) as http:
            realm = {"id": "r", "config": {"url": f"{provider.url}/token", "overlap": 0}}
            assert (await http.post(f"{servers[0].api}/api/realm", json=realm)).status_code == 201
            secret = {"realm": "r", "key": "k", "key_1": "v"}
            assert (await http.post(f"{servers[0].api}/api/secret", json=secret)).status_code == 201

            # B1, with nothing there and at the end of a token: one call.
            provider.delay = 0.3
            provider.life = 1
            assert (await http.get(servers[0].api + TOKEN)).json()["token"] == "token-1"
            await asyncio.sleep(1.2)  # it has ended
            provider.life = 7200
            assert await storm(servers, header) == {(200, "token-2"): CALLERS}
            assert len(provider.calls) == 2
            provider.delay = 0

            # A flush at one process ends what the others have in memory.
            flushed = await http.get(servers[3].api + TOKEN + "&flush=true")
            assert flushed.json()["token"] == "token-3"
            for server in servers:
                assert (await http.get(server.api + TOKEN)).json()["token"] == "token-3"

            await killed_while_it_asks(http, servers, provider)
            await killed_before_it_could_keep_the_token(http, servers, provider, url)


async def edited(http: httpx.AsyncClient, server: Api, value: str) -> None:
    """The secret is changed, so that there is no token any more."""
    answer = await http.patch(f"{server.api}/api/secret/r/k", json={"key_1": value})
    assert answer.status_code == 200, answer.text


async def log(http: httpx.AsyncClient, server: Api) -> list[dict[str, Any]]:
    return list((await http.get(f"{server.api}/api/realm/r/fetches")).json()["items"])


async def killed_while_it_asks(http: httpx.AsyncClient, servers: list[Api], provider: TokenProvider) -> None:
    """The lease of a dead process holds the others up until it ends by itself: nobody has to clear it away. How long
    that is, is tested where time is passed in.
    """
    victim = servers.pop()
    await edited(http, servers[0], "a")
    before = len(provider.calls)
    provider.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        dead = tasks.create_task(insist(http, victim, lambda: len(provider.calls) > before))
        await until(lambda: len(provider.calls) > before)
        victim.process.signal(signal.SIGKILL)
        assert await dead is None
        provider.gate.set()
        got = await asyncio.gather(*(http.get(server.api + TOKEN) for server in servers * 10))
    assert len({answer.json()["token"] for answer in got}) == 1
    assert len(provider.calls) == before + 2
    latest, lost = (await log(http, servers[0]))[:2]
    assert (latest["outcome"], lost["outcome"]) == ("done", "unknown")
    assert latest["started_at"] > lost["started_at"]


async def killed_before_it_could_keep_the_token(
    http: httpx.AsyncClient, servers: list[Api], provider: TokenProvider, url: str
) -> None:
    """B5: the provider has answered, so that its old token is dead, and nobody has the new one."""
    victim = servers.pop()
    await edited(http, servers[0], "b")
    before = len(provider.calls)
    provider.gate.clear()
    provider.answered.clear()
    async with asyncio.TaskGroup() as tasks:
        dead = tasks.create_task(insist(http, victim, lambda: len(provider.calls) > before))
        await until(lambda: len(provider.calls) > before)
        with writers_held_up(url):
            provider.gate.set()
            await until(provider.answered.is_set)
            victim.process.signal(signal.SIGKILL)
            assert await dead is None
    got = await http.get(servers[0].api + TOKEN)
    assert got.status_code == 200, got.text
    assert got.json()["source"] == "upstream"
    assert provider.alive(got.json()["token"])
    assert len(provider.calls) == before + 2
    latest, lost = (await log(http, servers[0]))[:2]
    assert (latest["outcome"], lost["outcome"]) == ("done", "unknown")
    assert "may have made a token" in lost["detail"]


async def insist(http: httpx.AsyncClient, server: Api, called: Callable[[], bool]) -> httpx.Response | None:
    """Ask for the token until the provider is: what was changed at another process is known here a moment later."""
    while True:
        try:
            answer = await http.get(server.api + TOKEN)
        except httpx.TransportError:
            return None
        if called():
            return answer
