"""What devices offer under load, as a process: the demo service with a quick clock, and a TCP echo.

`python -m tests.faults.demo_service` prints `{"web": "http://HOST:PORT", "echo": "HOST:PORT"}` once both listen, and
ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from common.clock import SystemClock
from homeport.demo.service import DemoService
from tests.stack.process import Process

__all__ = ["TICK", "DemoServices", "demo_services"]

TICK = 0.1
"""Seconds between two events of `/clock`."""
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class DemoServices:
    """The running services."""

    process: Process
    web: str
    """URL of HTTP and WebSocket."""
    echo: str
    """HOST:PORT of TCP."""


@contextmanager
def demo_services(folder: Path) -> Iterator[DemoServices]:
    """Start them; the log is in `folder`."""
    command = [sys.executable, "-m", "tests.faults.demo_service"]
    environment = {"PYTHONPATH": str(_ROOT)}
    with Process("demo-service", command, folder=folder, environment=environment, json_output=True) as process:
        places = process.read_json()
        yield DemoServices(process, places["web"], places["echo"])


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(
        DemoService(SystemClock(), tick=TICK).application(),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    echo = await asyncio.start_server(_echo, "127.0.0.1", 0)
    (site,) = runner.addresses
    places = {
        "web": "http://{}:{}".format(*site[:2]),
        "echo": "{}:{}".format(*echo.sockets[0].getsockname()[:2]),
    }
    print(json.dumps(places), flush=True)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
