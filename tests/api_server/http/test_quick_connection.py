"""Quick answers and aiohttp on one connection: in order, one at a time, and with one idea of when it is idle."""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from api_server.http import server as module
from api_server.http.server import RestServer

pytestmark = pytest.mark.anyio

QUICK = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n"


class Answers:
    """Implements `QuickAnswers`."""

    prefix = b"GET /quick"

    def __init__(self) -> None:
        self.given = 0

    def answer(self, head: bytes, address: str) -> bytes | None:
        assert address == "127.0.0.1"
        self.given += 1
        return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nquick"


class Server:
    """What runs, and one client."""

    def __init__(self, port: int, answers: Answers) -> None:
        self.answers = answers
        self.go = asyncio.Event()
        self._port = port
        self.begun = 0

    async def slow(self, request: web.Request) -> web.Response:
        self.begun += 1
        await self.go.wait()
        return web.Response(text="slow")

    async def quick(self, request: web.Request) -> web.Response:
        return web.Response(text="in order")

    async def last(self, request: web.Request) -> web.Response:
        response = web.Response(text="last")
        response.force_close()
        return response

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)


@asynccontextmanager
async def serving(keepalive: float = 75.0) -> AsyncIterator[Server]:
    answers = Answers()
    made = Server(0, answers)
    application = web.Application()
    application.router.add_get("/slow", made.slow)
    application.router.add_get("/quick", made.quick)
    application.router.add_get("/last", made.last)
    rest = RestServer(application, quick=answers, keepalive=keepalive)
    made._port = await rest.start("127.0.0.1", 0)
    try:
        yield made
    finally:
        made.go.set()
        await rest.close()


async def body(reader: asyncio.StreamReader) -> bytes:
    """Of the next answer."""
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return await reader.readexactly(int(length.split(b":")[1]))


async def until(reached: object) -> None:
    async with asyncio.timeout(20):
        while not reached():  # type: ignore[operator]
            await asyncio.sleep(0.001)


async def test_no_answer_overtakes_another() -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        for number in range(1, 4):
            server.go.clear()
            for request in (SLOW, SLOW, QUICK):
                writer.write(request)
                await asyncio.sleep(0.005)  # so that it comes by itself
            await until(lambda number=number: server.begun == 2 * number - 1)
            server.go.set()
            assert [await body(reader) for _ in range(3)] == [b"slow", b"slow", b"in order"]
            assert server.answers.given == number - 1
            writer.write(QUICK)
            assert await body(reader) == b"quick"
        writer.close()


async def test_after_the_last_answer_there_is_none() -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        writer.write(QUICK)
        assert await body(reader) == b"quick"
        writer.write(LAST)
        assert await body(reader) == b"last"
        writer.write(QUICK)
        async with asyncio.timeout(20):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        assert server.answers.given == 1
        writer.close()


KEEPALIVE = 0.25


@pytest.mark.parametrize("before", [[QUICK], [SLOW], [SLOW, QUICK], [QUICK, SLOW], [QUICK, b"GET /slow HT"]], ids=str)
async def test_an_idle_connection_ends_whoever_answered_last(before: list[bytes]) -> None:
    """And one on which a head has begun and does not go on."""
    async with serving(KEEPALIVE) as server:
        server.go.set()
        reader, writer = await server.connect()
        began = time.monotonic()
        for request in before:
            writer.write(request)
            if request.endswith(b"\r\n\r\n"):
                assert await body(reader) in (b"quick", b"slow")
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        assert time.monotonic() - began >= KEEPALIVE
        writer.close()


async def test_quick_answers_keep_a_connection_and_so_does_a_request_under_way() -> None:
    async with serving(KEEPALIVE) as server:
        server.go.set()
        reader, writer = await server.connect()
        writer.write(SLOW)
        assert await body(reader) == b"slow"
        began = time.monotonic()
        while time.monotonic() - began < 3 * KEEPALIVE:
            writer.write(QUICK)
            assert await body(reader) == b"quick"
            await asyncio.sleep(KEEPALIVE / 10)
        server.go.clear()
        writer.write(SLOW)
        await until(lambda: server.begun == 2)
        again, other = await server.connect()
        assert await again.read() == b""  # which had nothing to say for as long
        other.close()
        server.go.set()
        assert await body(reader) == b"slow"
        writer.close()


def test_nothing_of_aiohttp_is_used_that_is_its_own_affair() -> None:
    """Names that begin with an underscore may change with any release; nor must ours be among them."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(module._Connection)))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
    own = {name for name in vars(module._Connection) if not name.startswith("__")}
    assert {name for name in used if not name.startswith("__")} <= own
    assert not any(name.startswith("_") and hasattr(web.RequestHandler, name) for name in own)
