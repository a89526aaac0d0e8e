"""Two API servers, a relay, a database and a server of the Redis protocol: a limit that is set at one holds at both, at
once and without a restart, and what it allows they share (T4, G5).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from api_server.server import ApiServer
from tests.api_server.test_server import settings
from tests.api_server.tokens.test_processes import open_raw
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.stack.redis import redis

pytestmark = pytest.mark.anyio


class Two:
    """Two servers, and what the administration token gets from them."""

    def __init__(self, servers: list[ApiServer], http: httpx.AsyncClient) -> None:
        self.servers = servers
        self.http = http

    async def set(self, path: str, body: object) -> None:
        answer = await self.http.put(f"{self.servers[0].api_url}/api/limits/{path}", json=body)
        assert answer.status_code == 200, answer.text

    async def limit_streams(self, most: int) -> None:
        """Of the team; returns once both know it: by a quota that is set beside it, and stands in their answers."""
        quota = 1_000_000 + most
        await self.set("defaults", {"team": {"streams": most, "api_requests": {"quota": quota, "window": 60}}})
        async with asyncio.timeout(30):
            for server in (0, 1):
                while (await self.api(server)).headers.get("RateLimit-Policy") != f'"team";q={quota};w=60':
                    await asyncio.sleep(0.01)

    async def api(self, server: int) -> httpx.Response:
        return await self.http.get(f"{self.servers[server].api_url}/api/teams")

    async def gateway(self, server: int) -> httpx.Response:
        """There is no such device: what passes the limits is 404."""
        return await self.http.get(f"{self.servers[server].gateway_url}/d/home/nobody/web/")

    async def until(self, ask: Callable[[], object], status: int) -> float:
        """Seconds until an answer has that status."""
        began = time.monotonic()
        async with asyncio.timeout(30):
            while (await ask()).status_code != status:  # type: ignore[misc]
                await asyncio.sleep(0.01)
        return time.monotonic() - began


@asynccontextmanager
async def two_servers(folder: Path, relay: RunningRelay | None = None, **changes: object) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        if relay is None:
            relay = await stack.enter_async_context(running_relay(folder))
        given = settings(folder, relay_url=relay.internal_url, **changes)
        servers = [await stack.enter_async_context(ApiServer(given)) for _ in range(2)]
        token = (folder / "admin-token").read_text().strip()
        http = httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=20)
        yield Two(servers, await stack.enter_async_context(http))


async def test_t4_two_processes_share_a_limit_in_valkey(tmp_path: Path) -> None:
    with redis() as server:
        async with two_servers(tmp_path, directory_url=server.url) as two:
            rate = {"quota": 10, "window": 3600}
            await two.set("defaults", {"team": {"requests": rate, "api_requests": rate}})
            await two.until(lambda: two.gateway(0), 429)
            await two.until(lambda: two.gateway(1), 429)
            await two.until(lambda: two.api(1), 429)
            # At the other it is used up by now; the fields say so.
            answer = await two.api(0)
            assert answer.status_code == 429
            assert answer.json()["code"] == "rate_limited"
            assert answer.headers["RateLimit-Policy"] == '"team";q=10;w=3600'
            assert answer.headers["RateLimit"].startswith('"team";r=0;t=')
            assert int(answer.headers["Retry-After"]) > 0


async def test_g5_two_processes_share_streams_at_a_time(tmp_path: Path) -> None:
    with redis() as shared:
        async with running_relay(tmp_path) as relay, two_servers(tmp_path, relay, directory_url=shared.url) as two:
            first, second = two.servers
            answer = await two.http.post(f"{first.api_url}/api/devices", json={"name": "cam"})
            await relay.attach(answer.json()["id"], name="cam")
            admin = {"token": (tmp_path / "admin-token").read_text().strip()}
            await two.limit_streams(1)
            kept = [await open_raw(first, admin)]
            await two.until(lambda: two.gateway(1), 429)
            await two.limit_streams(2)
            await two.until(lambda: two.gateway(1), 404)
            kept.append(await open_raw(second, admin))
            for server in (0, 1):
                await two.until(lambda server=server: two.gateway(server), 429)
                assert (await two.gateway(server)).json()["code"] == "stream_limit"
            kept.pop()[1].close()
            await two.until(lambda: two.gateway(0), 404)
            kept.append(await open_raw(first, admin))
            for server in (0, 1):
                await two.until(lambda server=server: two.gateway(server), 429)
            for _, writer in kept:
                writer.close()


async def test_g5_a_limit_changes_while_everything_runs(tmp_path: Path) -> None:
    async with two_servers(tmp_path) as two:
        assert (await two.api(1)).headers.get("RateLimit") is None
        await two.set("defaults", {"token": {"api_requests": {"quota": 3, "window": 3600}}})
        await two.until(lambda: two.api(1), 429)
        # Counted by each for itself: the first has its own three.
        assert (await two.api(0)).status_code == 200
        # Who looks after the installation is not locked out of changing it.
        assert await two.until(lambda: two.api(0), 429) < 30
        await two.set("defaults", {})
        await two.until(lambda: two.api(1), 200)
        await two.set("defaults", {"address": {"max_header_bytes": 10}})
        await two.until(lambda: two.gateway(1), 431)
