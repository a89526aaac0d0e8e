"""Local services for the tests: small TCP and Unix servers on trio, and scripted ones that misbehave."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

__all__ = ["RST", "Handler", "echo", "listening_on", "refusing_port", "reset", "serve"]

Handler = Callable[[trio.SocketStream], Awaitable[None]]

RST = b"\x01\x00\x00\x00\x00\x00\x00\x00"
"""`struct linger`: on, 0 s."""


@asynccontextmanager
async def serve(handler: Handler, *, host: str = "127.0.0.1", path: Path | None = None) -> AsyncIterator[int]:
    """Run `handler` for each connection to a free port of `host`, or to the Unix socket `path`; gives the port or 0."""
    if path is not None:
        sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        await sock.bind(str(path))
        sock.listen(64)
        listeners = [trio.SocketListener(sock)]
        port = 0
    else:
        listeners = await trio.open_tcp_listeners(0, host=host)
        port = listeners[0].socket.getsockname()[1]

    async def handle(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            async with stream:
                await handler(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield port
        nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream) -> None:
    """Sends back what comes, then its end."""
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


def reset(stream: trio.SocketStream) -> None:
    """Close with RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
    stream.socket.close()


def refusing_port() -> int:
    """A port of 127.0.0.1 on which nobody listens: one that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def listening_on(path: Path, backlog: int) -> AsyncIterator[socket.socket]:
    """A Unix socket that listens and never accepts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen(backlog)
        yield sock
