"""A token is revoked at one API server and refused by the other (T3): with the bus, without it, and after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_server.db.engine import Kind
from api_server.server import ApiServer
from common.clock import SystemClock
from tests.api_server.test_server import settings
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.databases.fixtures import FreshDatabase
from tests.databases.servers import unreachable

pytestmark = pytest.mark.anyio


class Ahead(SystemClock):
    """The machine's clock, and what a test adds to it."""

    __slots__ = ("added",)

    def __init__(self) -> None:
        self.added = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.added


class Two:
    """Two servers, and whoever asks them."""

    def __init__(self, folder: Path, first: ApiServer, second: ApiServer, http: httpx.AsyncClient) -> None:
        self.admin = {"Authorization": f"Bearer {(folder / 'admin-token').read_text().strip()}"}
        self.first, self.second, self.http = first, second, http

    async def make(self, *scopes: str) -> dict[str, Any]:
        body = {"name": "ci", "scopes": scopes}
        answer = await self.http.post(f"{self.first.api_url}/api/api-tokens", headers=self.admin, json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def revoke(self, made: dict[str, Any]) -> None:
        answer = await self.http.delete(f"{self.first.api_url}/api/api-tokens/{made['id']}", headers=self.admin)
        assert answer.status_code == 204

    async def at_api(self, server: ApiServer, made: dict[str, Any]) -> int:
        headers = {"Authorization": f"Bearer {made['token']}"}
        return (await self.http.get(f"{server.api_url}/api/teams", headers=headers)).status_code

    async def at_gateway(self, server: ApiServer, made: dict[str, Any]) -> int:
        headers = {"X-API-Key": made["token"]}
        return (await self.http.get(f"{server.gateway_url}/d/home/never/web/", headers=headers)).status_code


async def until(status: Callable[[], Awaitable[int]], wanted: int) -> None:
    async with asyncio.timeout(30):
        while await status() != wanted:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def two(folder: Path, relay: RunningRelay, clock: Ahead | None = None, **more: object) -> AsyncIterator[Two]:
    given = settings(folder, relay_url=relay.internal_url, relay_patience=0, **more)
    async with (
        ApiServer(given, clock=clock) as first,
        ApiServer(given, clock=clock) as second,
        httpx.AsyncClient(trust_env=False, timeout=30) as http,
    ):
        yield Two(folder, first, second, http)


async def test_t3_revoked_at_one_it_is_refused_at_the_other(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, two(tmp_path, relay) as servers:
        made = await servers.make("gateway:call")
        for server in (servers.first, servers.second):
            assert await servers.at_api(server, made) == 200
            assert await servers.at_gateway(server, made) == 404
        await servers.revoke(made)
        assert await servers.at_api(servers.first, made) == 401
        assert await servers.at_gateway(servers.first, made) == 401
        await until(lambda: servers.at_api(servers.second, made), 401)
        assert await servers.at_gateway(servers.second, made) == 401


async def open_raw(server: ApiServer, made: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw connection through a gateway to the echo of a device."""
    host, _, port = server.gateway_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"GET /t/home/cam/echo HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {made['token']}\r\n"
        "Connection: Upgrade\r\nUpgrade: homeport-tcp\r\n\r\n"
    )
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    return reader, writer


async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"


async def test_t3_what_a_token_has_open_ends_with_it_at_the_other_server_too(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, two(tmp_path, relay) as servers:
        answer = await servers.http.post(
            f"{servers.first.api_url}/api/devices", headers=servers.admin, json={"name": "cam"}
        )
        assert answer.status_code == 201
        await relay.attach(answer.json()["id"], name="cam")
        made, other = await servers.make("gateway:call", "events:read"), await servers.make("gateway:call:device:cam")
        opened = [await open_raw(server, made) for server in (servers.first, servers.second)]
        kept = await open_raw(servers.second, other)
        for reader, writer in (*opened, kept):
            await echoes(reader, writer)
        headers = {"Authorization": f"Bearer {made['token']}"}
        async with servers.http.stream("GET", f"{servers.second.api_url}/api/events", headers=headers) as events:
            lines = events.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            await servers.revoke(made)
            async with asyncio.timeout(30):
                for reader, writer in opened:
                    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                        await reader.readexactly(1)
                    writer.close()
                with pytest.raises(httpx.HTTPError):
                    async for _ in lines:
                        pass
        await echoes(*kept)
        kept[1].close()


async def test_t3_what_the_tokens_of_a_revoked_token_have_open_ends_too(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, two(tmp_path, relay) as servers:
        answer = await servers.http.post(
            f"{servers.first.api_url}/api/devices", headers=servers.admin, json={"name": "cam"}
        )
        await relay.attach(answer.json()["id"], name="cam")
        parent = await servers.make("gateway:call", "api_tokens:create")
        answer = await servers.http.post(
            f"{servers.first.api_url}/api/api-tokens",
            headers={"Authorization": f"Bearer {parent['token']}"},
            json={"name": "child", "scopes": ["gateway:call"]},
        )
        reader, writer = await open_raw(servers.second, answer.json())
        await echoes(reader, writer)
        await servers.revoke(parent)
        async with asyncio.timeout(30):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()


async def test_t3_without_the_bus_the_database_tells(tmp_path: Path) -> None:
    stack = AsyncExitStack()
    relay = await stack.enter_async_context(running_relay(tmp_path))
    async with stack, two(tmp_path, relay) as servers:
        made = await servers.make("gateway:call")
        assert await servers.at_api(servers.second, made) == 200
        await stack.aclose()
        await servers.revoke(made)
        assert await servers.at_api(servers.first, made) == 401
        await until(lambda: servers.at_api(servers.second, made), 401)
        assert await servers.at_gateway(servers.second, made) == 401


async def test_t3_a_revoked_token_stays_dead_through_a_restart_without_the_bus(tmp_path: Path) -> None:
    stack = AsyncExitStack()
    relay = await stack.enter_async_context(running_relay(tmp_path))
    async with stack:
        async with two(tmp_path, relay) as servers:
            made, good = await servers.make("gateway:call"), await servers.make("gateway:call")
            assert await servers.at_api(servers.second, made) == 200
            await stack.aclose()
            await servers.revoke(made)
        async with two(tmp_path, relay) as servers:
            for server in (servers.first, servers.second):
                assert await servers.at_api(server, made) == 401
                assert await servers.at_gateway(server, made) == 401
                assert await servers.at_api(server, good) == 200


async def test_t3_without_bus_and_database_tokens_are_refused_after_ten_seconds(
    tmp_path: Path, fresh_database: FreshDatabase
) -> None:
    clock = Ahead()
    stack = AsyncExitStack()
    with fresh_database(Kind.POSTGRESQL) as url:
        relay = await stack.enter_async_context(running_relay(tmp_path))
        async with stack, two(tmp_path, relay, clock, database_url=url) as servers:
            made, other = await servers.make("sessions:read"), await servers.make("sessions:read")

            async def sessions(who: dict[str, Any]) -> tuple[int, str, str | None]:
                """The one question that needs no database beyond who asks: it is put to the relay."""
                headers = {"Authorization": f"Bearer {who['token']}"}
                answer = await servers.http.get(f"{servers.second.api_url}/api/sessions", headers=headers)
                return answer.status_code, answer.json().get("code", ""), answer.headers.get("Retry-After")

            assert (await sessions(made))[0] == 200
            await stack.aclose()
            with unreachable(url):
                assert (await sessions(made))[1] == "relay_unavailable", "what is known holds for a moment"
                assert await sessions(other) == (503, "database_unavailable", "2"), "what is not is not let in"
                clock.added += 11
                assert await sessions(made) == (503, "database_unavailable", "2")
                assert await servers.at_gateway(servers.second, made) == 503
            await until(lambda: servers.at_api(servers.second, made), 200)
