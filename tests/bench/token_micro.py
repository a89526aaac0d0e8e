"""`GET /api/token` from the cache with 300 connections, beside a bare aiohttp handler that answers the same bytes, and
on four API processes that share a PostgreSQL.

    python -m tests.bench.token_micro [--rounds 5] [--seconds 3]

The rounds take turns, so that what else the machine does falls on all of them; a ratio is the median of the rounds'
own. The API is the real one, started by its command: authentication, authorisation, quotas, metrics and audit as ever.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx

from api_server.db.engine import Kind
from tests.databases.servers import Databases
from tests.stack.homeport import Api, Keys, api, relay
from tests.stack.process import Process
from tests.stack.provider import token_provider
from tests.stack.tools import tool

__all__ = ["main"]

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


def measure(url: str, header: Mapping[str, str], seconds: float) -> tuple[float, float, float]:
    """Requests a second, and the 50th and 99th percentile of latency in milliseconds."""
    fields = [part for name, value in header.items() for part in ("-H", f"{name}: {value}")]
    command = [tool("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", *fields, url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        raise RuntimeError(said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None
    return float(rate[1]), _milliseconds(said, "50%"), _milliseconds(said, "99%")


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


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        databases = stack.enter_context(Databases(folder))
        provider = stack.enter_context(token_provider())
        bare = stack.enter_context(_bare(folder))
        sides = {"bare aiohttp handler": (bare, {})}
        for name, kind, count in (("1 API process", Kind.SQLITE, 1), ("4 API processes", Kind.POSTGRESQL, 4)):
            url = stack.enter_context(databases.fresh(kind))
            home = folder / f"of-{count}"
            servers, header = stack.enter_context(_servers(home, url, count, provider.url))
            sides[f"{name}, {kind.name.lower()}"] = (servers[0].api + PATH, header)
        results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
        for _ in range(given.rounds):
            for name, (url, header) in sides.items():
                results[name].append(measure(url, header, given.seconds))
        _show(results, calls=len(provider.calls))


def _show(results: Mapping[str, list[tuple[float, float, float]]], *, calls: int) -> None:
    reference = next(iter(results.values()))
    print(f"load before and now: {os.getloadavg()[0]:.1f}; calls to the provider in all: {calls}")
    print(f"{'side':32} {'requests/s':>12} {'ratio':>7} {'p50 ms':>8} {'p99 ms':>8} {'p99/p50':>8}")
    for name, rounds in results.items():
        ratio = median(mine[0] / theirs[0] for mine, theirs in zip(rounds, reference, strict=True))
        p50, p99 = (median(each[number] for each in rounds) for number in (1, 2))
        rate = median(each[0] for each in rounds)
        print(f"{name:32} {rate:12.0f} {ratio:7.2f} {p50:8.1f} {p99:8.1f} {p99 / p50:8.1f}")


if __name__ == "__main__":
    main()
