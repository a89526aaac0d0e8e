"""`GET /api/token` from the cache with 300 connections, beside a bare aiohttp handler that answers the same bytes, and
on four API processes that share a PostgreSQL.

The rounds take turns, so that what else the machine does falls on all of them. The API is the real one, started by its
command: authentication, authorisation, quotas, metrics and audit as ever.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from api_server.db.engine import Kind
from tests.bench.rows import Figures, Row, Scale
from tests.bench.sides import FOUR, HANDLER, HOMEPORT
from tests.databases.servers import Databases
from tests.stack.homeport import Api, Keys, api, relay
from tests.stack.process import Process
from tests.stack.provider import token_provider
from tests.stack.tools import tool

__all__ = ["BrokerTokens"]

CONNECTIONS = 300
PATH = "/api/token?realm=r&key=k"

_BARE = """
import sys
import uvloop
from aiohttp import web

BODY = b'{"token":"token-1","token_type":"Bearer","expires_at":1.0,"source":"database","expires_in":7200000}'

async def token(request):
    return web.Response(body=BODY, content_type="application/json")

async def main():
    application = web.Application()
    application.router.add_get("/api/token", token)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    open(sys.argv[1] + ".new", "w").write('{"port": %d}' % port)
    import os
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    import asyncio
    await asyncio.Event().wait()

uvloop.run(main())
"""


def _load(url: str, header: Mapping[str, str], seconds: float) -> Figures:
    """What all the connections get, each asking again as soon as it is answered."""
    fields = [part for name, value in header.items() for part in ("-H", f"{name}: {value}")]
    command = [tool("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", *fields, url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        raise RuntimeError(said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None
    p50, p99 = _milliseconds(said, "50%"), _milliseconds(said, "99%")
    return {"requests/s": float(rate[1]), "p50 ms": p50, "p99 ms": p99, "p99/p50": p99 / p50}


def _milliseconds(said: str, percentile: str) -> float:
    found = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)", said)
    assert found is not None
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


@contextmanager
def _bare(folder: Path) -> Iterator[str]:
    script, ready = folder / "bare.py", folder / "bare.json"
    script.write_text(_BARE)
    with Process("bare", [sys.executable, script, ready], folder=folder) as process:
        yield f"http://127.0.0.1:{process.wait_for_file(ready)['port']}/api/token"


@contextmanager
def _servers(folder: Path, url: str, count: int, provider: str) -> Iterator[tuple[list[Api], dict[str, str]]]:
    folder.mkdir()
    keys = Keys.make(folder)
    environment = {"HOMEPORT_DATABASE_URL": url, "HOMEPORT_ALLOW_PRIVATE_TARGETS": "127.0.0.1"}
    header = {"Authorization": f"Bearer {keys.admin_token}"}
    with ExitStack() as stack:
        to = stack.enter_context(relay(folder, keys))
        servers = []
        port = 0
        for number in range(count):
            own = folder / f"api-{number}"
            own.mkdir()
            shared = {"HOMEPORT_REUSE_PORT": "true", "HOMEPORT_API_PORT": str(port)}
            servers.append(stack.enter_context(api(own, keys, to, environment={**environment, **shared})))
            port = int(servers[0].api.rpartition(":")[2])
        with httpx.Client(base_url=servers[0].api, headers=header, trust_env=False, timeout=60) as http:
            realm = {"id": "r", "config": {"url": f"{provider}/token"}}
            http.post("/api/realm", json=realm).raise_for_status()
            http.post("/api/secret", json={"realm": "r", "key": "k", "key_1": "v"}).raise_for_status()
            for _ in range(20 * count):
                http.get(PATH, headers={"Connection": "close"}).raise_for_status()
        yield servers, header


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerTokens(Row):
    """A brokered token out of the cache."""

    sides: tuple[str, ...] = (HOMEPORT, HANDLER, FOUR)

    def measure(self, scale: Scale, folder: Path) -> dict[str, list[Figures]]:
        """All rounds, the sides in turn."""
        folder.mkdir(parents=True)
        with ExitStack() as stack:
            databases = stack.enter_context(Databases(folder))
            provider = stack.enter_context(token_provider())
            asked: dict[str, tuple[str, Mapping[str, str]]] = {}
            for side, kind, count in ((HOMEPORT, Kind.SQLITE, 1), (FOUR, Kind.POSTGRESQL, 4)):
                url = stack.enter_context(databases.fresh(kind))
                servers, header = stack.enter_context(_servers(folder / side, url, count, provider.url))
                asked[side] = (servers[0].api + PATH, header)
            asked[HANDLER] = (stack.enter_context(_bare(folder)), {})
            rounds: dict[str, list[Figures]] = {side: [] for side in self.sides}
            for number in range(scale.rounds + 1):
                for side in self.sides:
                    figures = _load(*asked[side], scale.seconds)
                    if number:  # the first one is to warm up
                        rounds[side].append(figures)
        return rounds
