"""The provider for development as a process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
from aiohttp import web

from common.clock import SystemClock
from common.crypto.errors import KeyFileError
from common.crypto.keyfiles import ensure_secret
from common.process import ignore_stop_signals, on_stop_signals, write_ready_file
from homeport.dev_idp.people import DevPeople
from homeport.dev_idp.provider import DevProvider, new_key
from homeport.dev_idp.service import DevIdpService

__all__ = ["run"]

_SHUTDOWN_TIMEOUT = 2.0
_LOGOUT_TIMEOUT = 5.0
"""Seconds for the API to take a logout token."""


def run(
    host: str,
    port: int,
    *,
    data_dir: Path,
    client_id: str,
    ready_file: Path | None,
    on_listening: Callable[[str], None],
) -> int:
    """Serve until SIGTERM or SIGINT; `place.check_place` comes before.

    Args:
        host: address to listen on.
        port: TCP port; 0 for any free one.
        data_dir: where key and people are kept.
        client_id: of its one client.
        ready_file: where to write `{"pid": ..., "issuer": ...}` once requests are answered.
        on_listening: told the issuer at that moment.

    Returns:
        The exit code of the process.

    Raises:
        KeyFileError: key or people cannot be read or written.
        OSError: the address cannot be listened on.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise KeyFileError(f"{data_dir} cannot be made: {exc.strerror}") from exc
    key = ensure_secret(data_dir / "signing-key.json", new_key)
    people = DevPeople(data_dir / "people.json")
    # The issuer names the port, which is known before anything is answered.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        address, chosen_port = listener.getsockname()[:2]
        issuer = f"http://[{address}]:{chosen_port}" if ":" in address else f"http://{address}:{chosen_port}"
        provider = DevProvider(issuer, client_id, key)
        asyncio.run(_serve(listener, provider, people, ready_file, on_listening))
    return 0


async def _serve(
    listener: socket.socket,
    provider: DevProvider,
    people: DevPeople,
    ready_file: Path | None,
    on_listening: Callable[[str], None],
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    on_stop_signals(lambda: loop.call_soon_threadsafe(stop.set))
    async with httpx.AsyncClient(trust_env=False, timeout=_LOGOUT_TIMEOUT) as http:
        service = DevIdpService(provider, people, http, SystemClock())
        runner = web.AppRunner(service.application(), access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            write_ready_file(ready_file, {"issuer": provider.issuer})
            on_listening(provider.issuer)
            await stop.wait()
        finally:
            await runner.cleanup()
            ignore_stop_signals()
