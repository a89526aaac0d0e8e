"""Two services that send back what they get, as a process of their own: `python -m tests.stack.echo`.

    WebSocket    messages of either kind, of any size, by the `websockets` library
    TCP          bytes; after the peer's half-close what is left goes out, then the connection ends

It prints `{"websocket": "HOST:PORT", "tcp": "HOST:PORT"}` once both listen, and ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.stack.process import Process

__all__ = ["Echo", "echo"]

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Echo:
    """The running services, each as HOST:PORT."""

    process: Process
    websocket: str
    tcp: str


@contextmanager
def echo(folder: Path) -> Iterator[Echo]:
    """Start both; the log is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.stack.echo"]
    environment = {"PYTHONPATH": str(_ROOT)}
    with Process("echo", command, folder=folder, environment=environment, json_output=True) as process:
        ports = process.read_json()
        yield Echo(process, ports["websocket"], ports["tcp"])


async def _echo_messages(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        return  # the peer broke the protocol or went away: the Autobahn cases do that


async def _echo_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


async def _serve() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    messages = await serve(_echo_messages, "127.0.0.1", 0, max_size=None, ping_interval=None)
    stream = await asyncio.start_server(_echo_bytes, "127.0.0.1", 0)
    ports = {"websocket": messages.sockets, "tcp": stream.sockets}
    places = {name: "{}:{}".format(*next(iter(sockets)).getsockname()) for name, sockets in ports.items()}
    print(json.dumps(places), flush=True)
    await stop.wait()
    stream.close()
    messages.close()
    await messages.wait_closed()


if __name__ == "__main__":
    asyncio.run(_serve())
