"""The demo service as a process: composition, listening, and a clean stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from common.clock import SystemClock
from common.process import ignore_stop_signals, on_stop_signals, write_ready_file
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
    on_stop_signals(lambda: loop.call_soon_threadsafe(stop.set))

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
        write_ready_file(ready_file, {"url": url})
        on_listening(url)
        await stop.wait()
    finally:
        await runner.cleanup()
        ignore_stop_signals()
