"""The demo service as a process: composition, listening, and a clean stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from common.clock import SystemClock
from common.crypto.keyfiles import write_public
from homeport.demo.service import DemoService

__all__ = ["run"]

_SHUTDOWN_TIMEOUT = 5.0
"""Seconds that answers under way have to end in; then they are cut."""


def run(host: str, port: int, ready_file: Path | None, on_listening: Callable[[str], None]) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        host: address to listen on.
        port: TCP port; 0 for any free one.
        ready_file: where to write `{"pid": ..., "url": ...}` once requests are answered.
        on_listening: told the URL at that moment.

    Returns:
        The exit code of the process.

    Raises:
        OSError: the address cannot be listened on.
    """
    asyncio.run(_serve(host, port, ready_file, on_listening))
    return 0


async def _serve(host: str, port: int, ready_file: Path | None, on_listening: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    runner = web.AppRunner(
        DemoService(SystemClock()).application(),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_SHUTDOWN_TIMEOUT,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        address, chosen_port = runner.addresses[0][:2]
        url = f"http://[{address}]:{chosen_port}" if ":" in address else f"http://{address}:{chosen_port}"
        if ready_file is not None:
            write_public(ready_file, json.dumps({"pid": os.getpid(), "url": url}) + "\n")
        on_listening(url)
        await stop.wait()
    finally:
        await runner.cleanup()
