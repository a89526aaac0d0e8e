"""The relay's composition root: settings in, exit code out."""

from __future__ import annotations

import asyncio
import gc
import resource

import uvloop

from common.errors import HomeportError
from common.logging import configure, get_logger
from common.memory import keep_freed_memory
from common.process import ignore_stop_signals, on_stop_signals, write_ready_file
from remote_proxy.relay import Relay
from remote_proxy.settings import RelaySettings

__all__ = ["run"]

_SPARE_DESCRIPTORS = 1024
"""Descriptors for internal connections and files, beside those of the tunnels."""


def run(settings: RelaySettings) -> int:
    """Run a relay until SIGTERM or SIGINT, drain it, and return the exit code. A second signal ends the grace."""
    configure(format=settings.log_format, level=settings.log_level)
    log = get_logger("relay")
    keep_freed_memory()
    _collect_less_often()
    try:
        _raise_descriptor_limit(settings.max_tunnels + _SPARE_DESCRIPTORS)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except HomeportError as exc:
        log.error("the relay cannot start", code=exc.code, detail=exc.detail)  # noqa: TRY400  the detail says it all
        return 1
    except OSError as exc:
        log.error("the relay cannot listen", detail=str(exc))  # noqa: TRY400
        return 1
    return 0


async def _serve(settings: RelaySettings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    async with Relay(settings) as relay:

        def on_signal() -> None:
            if stop.is_set():
                relay.hurry()
            stop.set()

        on_stop_signals(lambda: loop.call_soon_threadsafe(on_signal))
        write_ready_file(settings.ready_file, {"tunnel": relay.tunnel_url, "internal": relay.internal_url})
        get_logger("relay").info("ready", tunnel=relay.tunnel_url, internal=relay.internal_url)
        await stop.wait()
        await relay.drain()
        ignore_stop_signals()


def _raise_descriptor_limit(wanted: int) -> None:
    """Allow this process `wanted` open files, as far as the system lets it; a tunnel is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < wanted:
        get_logger("relay").warning("fewer open files than max_tunnels needs", limit=limit, wanted=wanted)


def _collect_less_often() -> None:
    """Fit the garbage collector to a process that holds a million objects for long and makes few cycles: by default it
    would look at the young ones once in 700 allocations, a tenth of what accepting a tunnel costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
