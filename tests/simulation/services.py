"""Local services of a device, each behind one end of a real socket pair: the agent reads and writes a kernel's socket.

echo      sends back what comes, and ends when it does
sink      takes what comes until its end, and answers with the number of bytes and their SHA-256
source    reads a `Wish` and sends that many bytes, at the pace that it asks for
flaky     reads a `Wish`, sends that many bytes, and hangs up with the rest unread
closed    nobody listens
tarpit    the connect never ends
"""

from __future__ import annotations

import errno
import hashlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar

import trio

from common.ids import ServiceName
from edge_agent.checks import ConnectCheck
from edge_agent.services import Service, ServiceKind, ServiceList

__all__ = ["CONTENT_SIZE", "DIGEST_SIZE", "LocalServices", "Wish", "content", "digest"]

CONTENT_SIZE = 1024 * 1024
"""Bytes after which the content repeats."""

_CONTENT = memoryview(random.Random("content").randbytes(CONTENT_SIZE) * 2)

DIGEST_SIZE = 40


def content(start: int, size: int) -> memoryview:
    """`size` bytes, at most `CONTENT_SIZE`, which differ by `start`: what is sent in any direction is a piece of it."""
    assert size <= CONTENT_SIZE
    start %= CONTENT_SIZE
    return _CONTENT[start : start + size]


def digest(data: memoryview) -> bytes:
    """What a sink answers."""
    return struct.pack(">Q", len(data)) + hashlib.sha256(data).digest()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants of a source."""

    start: int
    size: int
    piece: int
    """Bytes sent at once."""
    pause: float
    """Seconds between two pieces."""

    FORMAT: ClassVar[struct.Struct] = struct.Struct(">IIId")

    def pack(self) -> bytes:
        return self.FORMAT.pack(self.start, self.size, self.piece, self.pause)


class _Closed:
    async def connect(self) -> socket.socket:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")

    def __str__(self) -> str:
        return "closed"


class _Tarpit:
    async def connect(self) -> socket.socket:
        await trio.sleep_forever()
        raise AssertionError

    def __str__(self) -> str:
        return "tarpit"


class _Local:
    """A target that a handler serves."""

    def __init__(self, services: LocalServices, handler: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        self._services = services
        self._handler = handler

    async def connect(self) -> socket.socket:
        near, far = socket.socketpair()
        near.setblocking(False)
        if self._handler is _slow_sink:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * 1024)
        self._services.start(self._handler, far)
        await trio.lowlevel.checkpoint()
        return near

    def __str__(self) -> str:
        return self._handler.__name__


class LocalServices:
    """The services of one device.

    Args:
        nursery: runs them; cancelled with the device.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.open = 0
        """Connections that the services hold."""
        targets = {name: _Local(self, handler) for name, handler in _HANDLERS.items()}
        self.list = ServiceList(
            Service(
                name=ServiceName(name),
                kind=ServiceKind.TCP,
                target=target,
                check=ConnectCheck() if name in ("echo", "closed") else None,
                connect_timeout=3.0,
            )
            for name, target in {**targets, "closed": _Closed(), "tarpit": _Tarpit()}.items()
        )

    def start(self, handler: Callable[[trio.SocketStream], Awaitable[None]], sock: socket.socket) -> None:
        """Serve one connection."""
        self.open += 1
        self._nursery.start_soon(self._serve, handler, sock)

    async def _serve(self, handler: Callable[[trio.SocketStream], Awaitable[None]], sock: socket.socket) -> None:
        try:
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
                await handler(stream)
        except trio.BrokenResourceError:
            pass  # the agent hung up, as it does when the client gave up
        finally:
            self.open -= 1


async def _echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def _sink(stream: trio.SocketStream) -> None:
    received = hashlib.sha256()
    size = 0
    async for data in stream:
        received.update(data)
        size += len(data)
    await stream.send_all(struct.pack(">Q", size) + received.digest())
    await stream.send_eof()


async def _slow_sink(stream: trio.SocketStream) -> None:
    received = hashlib.sha256()
    size = 0
    while data := await stream.receive_some(32 * 1024):
        received.update(data)
        size += len(data)
        await trio.sleep(0.2)
    await stream.send_all(struct.pack(">Q", size) + received.digest())
    await stream.send_eof()


async def _source(stream: trio.SocketStream) -> None:
    wish = await _wish(stream)
    if wish is None:
        return
    rest = content(wish.start, wish.size)
    while rest:
        await stream.send_all(rest[: wish.piece])
        rest = rest[wish.piece :]
        if wish.pause:
            await trio.sleep(wish.pause)
    await stream.send_eof()
    async for _ in stream:
        pass


async def _flaky(stream: trio.SocketStream) -> None:
    wish = await _wish(stream)
    if wish is not None:
        await stream.send_all(content(wish.start, wish.size))


async def _wish(stream: trio.SocketStream) -> Wish | None:
    data = b""
    while len(data) < Wish.FORMAT.size:
        more = await stream.receive_some(Wish.FORMAT.size - len(data))
        if not more:
            return None
        data += more
    return Wish(*Wish.FORMAT.unpack(data))


_HANDLERS: dict[str, Callable[[trio.SocketStream], Awaitable[None]]] = {
    "echo": _echo,
    "sink": _sink,
    "slow-sink": _slow_sink,
    "source": _source,
    "flaky": _flaky,
}
