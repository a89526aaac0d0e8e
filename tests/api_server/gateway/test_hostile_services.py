"""Services that answer so that a client could be fooled. A bad head is a 502, a bad body a cut connection; in neither
case does a byte of it turn up in somebody else's response.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.api_server.gateway.stage import Stage, answering, ok, request_head
from tests.api_server.relay.fake_relay import ServiceSide

pytestmark = pytest.mark.anyio

START = b"HTTP/1.1 200 OK\r\n"
SPLIT = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"

BAD_HEADS = {
    "garbage": b"\x00\x01\x02\r\n\r\n",
    "no version": b"200 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status that is none": b"HTTP/1.1 abc OK\r\n\r\n",
    "status 0": b"HTTP/1.1 000 OK\r\n\r\n",
    "status 999": b"HTTP/1.1 999 OK\r\n\r\n",
    "a control character in the reason": b"HTTP/1.1 200 O\x01K\r\n\r\n",
    "two lengths that differ": START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "two lengths that agree": START + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": START + b"Content-Length: 5, 5\r\n\r\nhello",
    "a negative length": START + b"Content-Length: -5\r\n\r\nhello",
    "a length in hexadecimal": START + b"Content-Length: 0x5\r\n\r\nhello",
    "a length of more than 63 bits": START + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "length and chunks": START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": START + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunks twice": START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": START + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunks behind another coding": START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\r\n\r\n",
    "bare CR": START + b"X-A: b\rSet-Cookie: a=b\r\n\r\n",
    "a folded field": START + b"X-A: b\r\n c\r\n\r\n",
    "a blank before the colon": START + b"Content-Length : 5\r\n\r\nhello",
    "NUL": START + b"X-A: b\0c\r\n\r\n",
    "too large": START + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n",
    "without an end": START + b"X-A: " + b"a" * 70_000,
    "too many fields": START + b"X-A: b\r\n" * 200 + b"\r\n",
    "a connection that names the length": START + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    "101 that nobody asked for": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "informational responses without end": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17,
}

BAD_BODIES = {
    "no size": b"hello\r\n",
    "a size that is too long": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "bare LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "bare LF in an extension": b"5;a\n\r\nhello\r\n0\r\n\r\n",
    "a chunk that is longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "a chunk that is shorter than its size": b"6\r\nhello\r\n0\r\n\r\n",
    "a malformed trailer": b"5\r\nhello\r\n0\r\nX-A\r\n\r\n",
}


@pytest.mark.parametrize("response", BAD_HEADS.values(), ids=BAD_HEADS.keys())
async def test_a_bad_head_is_a_502(response: bytes) -> None:
    ends: list[bool] = []

    async def hostile(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(response)
        ends.append(await side.was_reset())

    async with Stage(web=hostile) as stage:
        client = await stage.connect()
        await client.send(request_head())
        reply = await client.reply()
        while reply.status == 103:
            reply = await client.reply()
        assert (reply.status, reply.code, reply["Connection"]) == (502, "bad_response", "close")
        assert await client.closed()
        await stage.until(lambda: bool(ends))
        assert ends == [True]


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_body_is_a_cut_connection(body: bytes) -> None:
    async with Stage(web=answering(START + b"Transfer-Encoding: chunked\r\n\r\n" + body)) as stage:
        client = await stage.connect()
        await client.send(request_head() * 2)
        assert await client.was_cut()
        assert len(stage.pool) == 0


async def test_a_bad_body_whose_head_has_gone_is_a_cut_connection() -> None:
    go = asyncio.Event()

    async def hostile(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(START + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await go.wait()
        await side.send(b"nonsense\r\n")
        await side.was_reset()

    async with Stage(web=hostile) as stage:
        client = await stage.connect()
        await client.send(request_head())
        assert (await client.head()).status == 200
        assert await client.read(10) == b"5\r\nhello\r\n"
        go.set()
        assert await client.was_cut()


@pytest.mark.parametrize(
    "response",
    [
        START + b"Content-Length: 5\r\n\r\nhello" + SPLIT,
        START + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + SPLIT,
    ],
)
async def test_what_follows_a_response_is_thrown_away_with_its_stream(response: bytes) -> None:
    streams = 0

    async def splits(side: ServiceSide) -> None:
        nonlocal streams
        streams += 1
        await side.read_head()
        await side.send(response)
        assert await side.was_reset()

    async with Stage(web=splits) as stage:
        client = await stage.connect()
        await client.send(request_head() * 3)
        assert [(await client.reply()).body for _ in range(3)] == [b"hello"] * 3
        assert streams == 3


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("HEAD", START + b"Content-Length: 5\r\n\r\nhello"),
        ("HEAD", START + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n" + SPLIT),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello"),
    ],
)
async def test_a_body_where_none_may_be_is_thrown_away(method: str, response: bytes) -> None:
    async with Stage(web=answering(response)) as stage:
        client = await stage.connect()
        await client.send(request_head(method) * 3)
        replies = [await client.reply(head_only=True) for _ in range(3)]
        assert len({reply.status for reply in replies}) == 1
        assert stage.pool.statistics().reused == 0


async def test_a_service_that_answers_before_it_was_asked() -> None:
    async def eager(side: ServiceSide) -> None:
        await side.send(ok(b"eager"))
        await side.read_to_end()

    async with Stage(web=eager) as stage:
        client = await stage.connect()
        # It may do as it likes on a stream that it has to itself.
        assert (await client.get()).body == b"eager"


async def test_other_devices_and_clients_notice_nothing() -> None:
    async with Stage(web=answering(START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n")) as stage:
        stage.relay.online("good", web=answering(ok()))
        client = await stage.connect()
        for _ in range(3):
            assert (await (await stage.connect()).get()).code == "bad_response"
            assert (await client.get(device="good")).body == b"hello"
