"""HTTP/1.1 through the gateway, alike for a device's service and for backends over http and https."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from tests.api_server.gateway.kinds import KINDS, Kind, stage_of
from tests.api_server.gateway.stage import answering, ok
from tests.api_server.relay.fake_relay import ServiceSide, read_request
from tests.stack.certificates import Certificate, make_certificate

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("kind", KINDS)]

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder: Path = tmp_path_factory.mktemp("kinds")
    return make_certificate(folder)


async def test_what_the_target_sees_of_the_request(kind: Kind, certificate: Certificate) -> None:
    """G2: neither token nor cookie of Homeport's, and where the request comes from as the gateway knows it."""
    heads: list[bytes] = []

    async def serve(side: ServiceSide) -> None:
        heads.append(await side.read_head())
        await side.send(ok())

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        headers = "Cookie: homeport_session=x; theme=dark\r\nX-Forwarded-For: 203.0.113.1\r\nX-Homeport-User: root\r\n"
        await client.send(stage.head("GET", "/a/b?c=d&e=%20f", headers))
        assert (await client.reply()).body == b"hello"
        start, *lines = heads[0].decode().removesuffix("\r\n\r\n").split("\r\n")
        assert start == "GET /a/b?c=d&e=%20f HTTP/1.1"
        assert [line for line in lines if not line.startswith("traceparent")] == [
            f"Host: {stage.host}",
            "Cookie: theme=dark",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: gw",
            f"X-Forwarded-Prefix: {stage.base}",
        ]


async def test_a_connection_carries_many_requests_and_so_does_the_stream(kind: Kind, certificate: Certificate) -> None:
    async with stage_of(kind, answering(ok(b"one"), ok(b"two"), ok(b"three")), certificate) as stage:
        client = await stage.connect()
        for body in (b"one", b"two", b"three"):
            await client.send(stage.head())
            assert (await client.reply()).body == body
        assert stage.reused == 2


async def test_pipelined_requests_are_answered_in_order(kind: Kind, certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        while True:
            await side.send(ok(read_request(await side.read_head())[1].encode()))

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send("".join(stage.head("GET", f"/{number}") for number in range(20)))
        assert [(await client.reply()).body for _ in range(20)] == [b"/%d" % number for number in range(20)]


async def test_a_redirect_is_an_answer_like_any_other(kind: Kind, certificate: Certificate) -> None:
    """G3: it is passed on, and nobody goes where it points."""
    away = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n"
    async with stage_of(kind, answering(away, ok()), certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head())
        reply = await client.reply()
        assert (reply.status, reply["Location"]) == (302, "http://169.254.169.254/latest/meta-data/")
        await client.send(stage.head())
        assert (await client.reply()).body == b"hello"


async def test_expect_continue(kind: Kind, certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        headers = read_request(await side.read_head())[2]
        assert headers["expect"] == "100-continue"
        await side.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await side.send(ok((await side.read(int(headers["content-length"]))).upper()))

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head("POST", headers="Expect: 100-continue\r\nContent-Length: 4\r\n"))
        assert (await client.head()).status == 100
        await client.send(b"body")
        assert (await client.reply()).body == b"BODY"


async def test_chunks_and_trailers_both_ways(kind: Kind, certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        got = await side.reader.readuntil(b"\r\n\r\n")
        await side.send(CHUNKED.replace(b"\r\n\r\n", b"\r\nTrailer: Digest\r\n\r\n") + got)

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(
            stage.head("POST", "/up", "Transfer-Encoding: chunked\r\nTrailer: Digest\r\n"),
            "5\r\nhel",
            "lo\r\n3;ext=1\r\nabc\r\n",
            "0\r\nDigest: sha\r\nContent-Length: 5\r\nX-Homeport-User: root\r\n\r\n",
        )
        reply = await client.reply()
        assert (reply.body, reply.trailers) == (b"helloabc", [("Digest", "sha")])


async def test_megabytes_both_ways(kind: Kind, certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        length = int(read_request(await side.read_head())[2]["content-length"])
        body = await side.read(length)
        await side.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length, body)

    body = bytes(range(256)) * 20_000
    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head("PUT", headers=f"Content-Length: {len(body)}\r\n"), body)
        reply = await client.reply()
        assert hashlib.sha256(reply.body).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\n\r\n"),
    ],
)
async def test_responses_without_a_body(kind: Kind, certificate: Certificate, method: str, response: bytes) -> None:
    async with stage_of(kind, answering(response), certificate) as stage:
        client = await stage.connect()
        for _ in range(2):
            await client.send(stage.head(method))
            assert (await client.reply(head_only=True)).status == int(response.split(b" ")[1])
        assert stage.reused == 1


async def test_informational_responses(kind: Kind, certificate: Certificate) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    async with stage_of(kind, answering(hints + hints + ok()), certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head())
        assert [(await client.head()).status for _ in range(2)] == [103, 103]
        assert (await client.reply()).body == b"hello"


async def test_an_upgrade(kind: Kind, certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        assert read_request(await side.read_head())[2]["upgrade"] == "websocket"
        await side.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi ")
        while data := await side.reader.read(65536):
            await side.send(data.upper())

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head(headers="Connection: Upgrade\r\nUpgrade: websocket\r\n") + "early ")
        assert (await client.head()).status == 101
        received = b""
        while len(received) < 9:
            received += await client.read(1)
        assert received == b"hi EARLY "
        await client.send(b"more")
        assert await client.read(4) == b"MORE"


async def test_an_early_response_while_the_upload_still_runs(kind: Kind, certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(CHUNKED)
        while (line := await side.reader.readline()) != b"0\r\n":
            await side.send(line)
        await side.send(b"0\r\n\r\n")
        await side.was_reset()

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head("POST", headers="Transfer-Encoding: chunked\r\n"))
        head = await client.head()
        assert (head.status, head["Connection"]) == (200, "close")
        for _ in range(10):
            await client.send("4\r\nping\r\n")
            assert await client.read(9) == b"4\r\nping\r\n"
        await client.send("0\r\n\r\n")
        assert await client.read_to_end() == b"0\r\n\r\n"


@pytest.mark.parametrize("response", [b"", CHUNKED + b"4\r\nabcd\r\n"])
async def test_a_client_that_is_gone(kind: Kind, certificate: Certificate, response: bytes) -> None:
    answered = asyncio.Event()
    ends: list[bool] = []

    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        if response:
            await side.send(response)
        answered.set()
        ends.append(await side.was_reset())

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head())
        await answered.wait()
        client.cut()
        await stage.until(lambda: bool(ends))
        assert ends == [True]
        await stage.until(lambda: stage.gateway.statistics().connections == 0)


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", CHUNKED + b"3\r\nabc\r\n", CHUNKED + b"3\r\nabc\r\n0\r\n"],
)
async def test_a_target_that_is_gone_within_its_response(kind: Kind, certificate: Certificate, start: bytes) -> None:
    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(start)

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head())
        assert (await client.head()).status == 200
        assert await client.was_cut()


async def test_a_target_that_is_gone_before_its_response(kind: Kind, certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        await side.read_head()

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head("POST", headers="Content-Length: 2\r\n") + "hi")
        assert (await client.reply()).code == "stream_reset"


async def test_a_response_that_ends_with_the_connection(kind: Kind, certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(b"HTTP/1.1 200 OK\r\n\r\nall that there is")

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head())
        reply = await client.reply()
        assert (reply.body, reply.complete, reply["Connection"]) == (b"all that there is", True, "close")


async def test_an_idle_stream_that_was_closed_meanwhile_is_replaced_once(kind: Kind, certificate: Certificate) -> None:
    """No byte was answered: a request that may be sent twice goes out again."""

    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(ok())
        await side.read_head()  # and goes away

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        for _ in range(3):
            await client.send(stage.head())
            assert (await client.reply()).body == b"hello"
        assert stage.metric("stale_retries_total") == 2


async def test_a_client_that_half_closes_gets_its_answer(kind: Kind, certificate: Certificate) -> None:
    go = asyncio.Event()

    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        await go.wait()
        await side.send(ok())

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head())
        client.end()
        await stage.turn()
        go.set()
        assert (await client.reply()).body == b"hello"
        assert await client.closed()


async def test_a_target_that_does_not_answer_in_time(kind: Kind, certificate: Certificate) -> None:
    asked = asyncio.Event()

    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        asked.set()
        await side.was_reset()

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head())
        await asked.wait()
        stage.advance(stage.limits.service_timeout + 1)
        reply = await client.reply()
        assert (reply.status, reply.code) == (504, "service_timeout")


HOSTILE = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "two lengths that agree": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello",
    "bare CR": b"HTTP/1.1 200 OK\r\nX-A: b\rContent-Length: 5\r\n\r\nhello",
    "a folded field": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello",
    "a blank before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
    "NUL": b"HTTP/1.1 200 OK\r\nX-A: b\0\r\nContent-Length: 5\r\n\r\nhello",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a protocol nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("response", HOSTILE.values(), ids=HOSTILE.keys())
async def test_g4_a_response_that_two_could_read_differently(
    kind: Kind, certificate: Certificate, response: bytes
) -> None:
    async with stage_of(kind, answering(response), certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head() * 2)
        reply = await client.reply()
        assert (reply.status, reply.code, reply["Connection"]) == (502, "bad_response", "close")
        assert await client.closed()
        assert stage.reused == 0


async def test_g4_a_second_response_is_nobodys(kind: Kind, certificate: Certificate) -> None:
    """What follows a response is thrown away with its stream, and answers no other request."""
    smuggled = ok() + ok(b"smuggled")

    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(smuggled)
        await side.was_reset()

    async with stage_of(kind, serve, certificate) as stage:
        for _ in range(2):
            client = await stage.connect()
            await client.send(stage.head())
            assert (await client.reply()).body == b"hello"
        assert stage.reused == 0
