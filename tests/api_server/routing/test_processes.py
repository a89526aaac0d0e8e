"""Two API servers, a relay and a database: a route that is changed at one is in effect at the gateway of the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from api_server.server import ApiServer
from tests.api_server.test_server import settings
from tests.contract.relay_fixture import RunningRelay, running_relay

pytestmark = pytest.mark.anyio

LATHE = {"kind": "device", "device": "lathe", "service": "web"}


@asynccontextmanager
async def two(folder: Path, relay: RunningRelay) -> AsyncIterator[tuple[ApiServer, ApiServer, httpx.AsyncClient]]:
    """Two servers that follow, and a client that shows the administration token."""
    given = settings(folder, relay_url=relay.internal_url)
    async with ApiServer(given) as first, ApiServer(given) as second:
        token = (folder / "admin-token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=30, verify=False) as http:
            made = await http.post(f"{first.api_url}/api/devices", json={"name": "lathe"})
            assert made.status_code == 201, made.text
            yield first, second, http


async def code(http: httpx.AsyncClient, server: ApiServer, path: str) -> str:
    """What a gateway says of a path of which nothing is there."""
    return str((await http.get(f"{server.gateway_url}{path}")).json()["code"])


async def test_a_route_is_in_effect_at_every_gateway(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, two(tmp_path, relay) as (first, second, http):
        await relay.until(lambda: first.changes.fresh() and second.changes.fresh())
        assert await code(http, second, "/lathe/") == "no_route"
        body = {"name": "lathe", "path": "/lathe", "target": LATHE}
        assert (await http.post(f"{first.api_url}/api/routes", json=body)).status_code == 201
        for server in (first, second):
            await relay.until(lambda server=server: len(server.routes) == 1)
            assert await code(http, server, "/lathe/") == "device_offline"
        assert (await http.delete(f"{second.api_url}/api/routes/lathe")).status_code == 204
        for server in (second, first):
            await relay.until(lambda server=server: len(server.routes) == 0)
            assert await code(http, server, "/lathe/") == "no_route"


async def test_without_a_bus_too(tmp_path: Path) -> None:
    stack = AsyncExitStack()
    relay = await stack.enter_async_context(running_relay(tmp_path))
    async with stack, two(tmp_path, relay) as (first, second, http):
        await relay.until(lambda: first.changes.fresh() and second.changes.fresh())
        await stack.aclose()
        body = {"name": "lathe", "path": "/lathe", "target": LATHE}
        assert (await http.post(f"{first.api_url}/api/routes", json=body)).status_code == 201
        await relay.until(lambda: len(second.routes) == 1)


async def test_a_server_that_starts_knows_them(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, two(tmp_path, relay) as (first, _, http):
        body = {"name": "lathe", "path": "/lathe", "target": LATHE}
        assert (await http.post(f"{first.api_url}/api/routes", json=body)).status_code == 201
        async with ApiServer(settings(tmp_path, relay_url=relay.internal_url)) as third:
            assert await code(http, third, "/lathe/") == "device_offline"
