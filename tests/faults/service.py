"""The service of a device in the matrix: it checks what it gets, and keeps how each of its connections ended.

    web   GET /small/N         a short text that depends on N
          GET /download        `TRANSFER` bytes; after the first of them it waits until the fault is in force
          POST /upload         the hex digest of the body, which must be the bytes that are expected
          GET /events          server-sent events, in chunks, some of them after the fault
    ws    a WebSocket echo
    tcp   an echo of bytes, up to and including the end

A visit is one connection. Its word is what the service can know of it: `ok` (it ended in order, and nothing was under
way), `cut` (it was reset, or ended in the middle), `short` (raw bytes ended in order, before their end).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from homeport.demo.keystream import keystream
from tests.faults.chaos import Address

__all__ = ["END", "FIRST", "TICK", "TRANSFER", "Service", "Visit", "service", "small_text"]

TRANSFER = 4 * 1024 * 1024
"""Bytes of a download and an upload."""
FIRST = 256 * 1024
"""Bytes of them that pass before the fault."""
TICK = 0.03
"""Seconds between two events."""
AFTER = 10
"""Events after the fault is in force."""
END = b"the end."
"""Last bytes on raw TCP."""


def small_text(number: int) -> bytes:
    """The answer to /small/N."""
    return b"%d %s" % (number, hashlib.sha256(b"%d" % number).hexdigest().encode())


@dataclass(slots=True, eq=False)
class Visit:
    """One connection."""

    word: str | None = None
    """None while it lasts."""
    wrong: bool = False
    """Whether it brought bytes that nobody sent."""
    idle: bool = False
    """Whether it waits for a request."""
    ended: bool = False
    """Whether we have ended our side."""
    end: Callable[[], None] = field(default=lambda: None)
    """Ends it in order, if it is idle."""


def _end(visit: Visit, writer: asyncio.StreamWriter) -> None:
    visit.ended = True
    with suppress(OSError):  # reset meanwhile, which who reads finds out
        writer.write_eof()


class Service:
    """See the module. Addresses are set once it listens."""

    web: Address
    websocket: Address
    tcp: Address

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.harmed = asyncio.Event()
        """The fault is in force."""
        self.arrived = asyncio.Event()
        """The first bytes of an upload have come."""

    def begin(self) -> None:
        """A new cell: forget the last one."""
        self.visits = []
        self.harmed = asyncio.Event()
        self.arrived = asyncio.Event()

    def flush(self) -> None:
        """End the connections that wait for a request."""
        for visit in self.visits:
            if visit.idle and visit.word is None and not visit.ended:
                visit.end()

    @contextmanager
    def _visit(self) -> Iterator[Visit]:
        visit = Visit()
        self.visits.append(visit)
        try:
            yield visit
        except (ConnectionError, ConnectionClosedError, asyncio.IncompleteReadError):
            visit.word = "cut"
        except BaseException:
            visit.word = "failed"
            raise
        else:
            visit.word = visit.word or "ok"

    # web

    async def serve_web(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            with self._visit() as visit:
                visit.end = partial(_end, visit, writer)
                while True:
                    visit.idle = True
                    try:
                        head = await reader.readuntil(b"\r\n\r\n")
                    except asyncio.IncompleteReadError as exc:
                        if exc.partial:
                            raise
                        break
                    if visit.ended:
                        break  # a request that crossed our end: who sent it will find out
                    visit.idle = False
                    await self._answer(visit, head, reader, writer)
            writer.close()

    async def _answer(
        self, visit: Visit, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        line, *fields = head.decode("latin-1").split("\r\n")
        path = line.split(" ")[1]
        length = next((int(each[15:]) for each in fields if each.lower().startswith("content-length:")), 0)
        if path == "/upload":
            body = await self._check_upload(visit, length, reader)
        elif path == "/events":
            await self._send_events(writer)
            return
        elif path == "/download":
            await self._send_download(writer)
            return
        else:
            number = path.removeprefix("/small/")
            body = small_text(int(number)) if number.isdecimal() and len(number) < 10 else b"no such path"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()

    async def _check_upload(self, visit: Visit, length: int, reader: asyncio.StreamReader) -> bytes:
        digest, expected, left = hashlib.sha256(), keystream(0, length), length
        held = b""
        while left:
            data = await reader.read(min(left, 256 * 1024))
            if not data:
                raise ConnectionResetError("ended in the middle of a body")
            left -= len(data)
            if length - left >= FIRST:
                self.arrived.set()
            digest.update(data)
            while len(held) < len(data):
                held += next(expected)
            visit.wrong = visit.wrong or not held.startswith(data)
            held = held[len(data) :]
        return digest.hexdigest().encode()

    async def _send_download(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TRANSFER)
        sent = 0
        for chunk in keystream(0, TRANSFER):
            if sent >= 2 * FIRST:
                await self.harmed.wait()
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)

    async def _send_events(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        number = after = 0
        while after < AFTER:
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(TICK)
            number += 1
            after += self.harmed.is_set()
        event = b"data: end of %d\n\n" % number
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
        await writer.drain()

    # the others

    async def serve_websocket(self, connection: ServerConnection) -> None:
        with self._visit(), suppress(ConnectionClosedOK):
            while True:
                await connection.send(await connection.recv())

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            with self._visit() as visit:
                last = b""
                while data := await reader.read(64 * 1024):
                    last = (last + data)[-len(END) :]
                    writer.write(data)
                    await writer.drain()
                visit.word = "ok" if last == END else "short"
            writer.close()


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    """A service that listens on three ports."""
    serving = Service()
    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(await asyncio.start_server(_quiet(serving.serve_web), "127.0.0.1", 0))
        tcp = await stack.enter_async_context(await asyncio.start_server(_quiet(serving.serve_tcp), "127.0.0.1", 0))
        messages = await stack.enter_async_context(
            serve(serving.serve_websocket, "127.0.0.1", 0, max_size=None, ping_interval=None, close_timeout=2)
        )
        serving.web = web.sockets[0].getsockname()
        serving.tcp = tcp.sockets[0].getsockname()
        serving.websocket = next(iter(messages.sockets)).getsockname()
        yield serving


_Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


def _quiet(handler: _Handler) -> _Handler:
    """A handler that is cancelled without a word when the server ends."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()

    return serve_one
