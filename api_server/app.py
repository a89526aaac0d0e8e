"""The API server's process: settings in, exit code out."""

from __future__ import annotations

import asyncio

import uvloop

from api_server.server import ApiServer
from api_server.settings import ApiSettings
from common.errors import HomeportError
from common.logging import configure, get_logger
from common.process import ignore_stop_signals, on_stop_signals, write_ready_file

__all__ = ["run"]


def run(settings: ApiSettings) -> int:
    """Run an API server until SIGTERM or SIGINT, drain it, and return the exit code. A second signal ends the grace."""
    configure(format=settings.log_format, level=settings.log_level)
    log = get_logger("api_server")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except HomeportError as exc:
        log.error("the API server cannot start", code=exc.code, detail=exc.detail)  # noqa: TRY400  the detail says it all
        return 1
    except OSError as exc:
        log.error("the API server cannot listen", detail=str(exc))  # noqa: TRY400
        return 1
    except Exception:
        log.exception("the API server failed")
        return 1
    return 0


async def _serve(settings: ApiSettings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    async with ApiServer(settings) as server:

        def on_signal() -> None:
            if stop.is_set():
                server.hurry()
            stop.set()

        on_stop_signals(lambda: loop.call_soon_threadsafe(on_signal))
        write_ready_file(settings.ready_file, {"api": server.api_url, "gateway": server.gateway_url})
        await stop.wait()
        await server.drain()
        ignore_stop_signals()
