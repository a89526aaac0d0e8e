"""Slow readers, either side: nothing is lost, and nothing piles up."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from api_server.gateway import GatewayLimits
from tests.api_server.gateway.stage import BEARER, Stage, ok, request_head
from tests.api_server.relay.fake_relay import ServiceSide, read_request

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024

BOUND = 3 * MIB
"""Bytes that the gateway may hold for one connection: its high-water marks either way, and one read of 256 KiB each."""


def pattern(size: int) -> bytes:
    """Bytes that are not the same anywhere near."""
    return b"".join(hashlib.sha256(number.to_bytes(4)).digest() for number in range(size // 32 + 1))[:size]


async def stalls(stage: Stage, produced: list[int]) -> None:
    """Return once nothing is produced any more."""
    before = -1
    while before != produced[0]:
        before = produced[0]
        await stage.turn(300)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_client_that_does_not_read_holds_the_service(framing: str) -> None:
    block = pattern(64 * 1024)
    blocks = 400
    produced = [0]

    async def flood(side: ServiceSide) -> None:
        await side.read_head()
        start = {
            "length": b"Content-Length: %d\r\n" % (blocks * len(block)),
            "chunked": b"Transfer-Encoding: chunked\r\n",
            "close": b"",
        }[framing]
        await side.send(b"HTTP/1.1 200 OK\r\n" + start + b"\r\n")
        for _ in range(blocks):
            await side.send(b"10000\r\n" + block + b"\r\n" if framing == "chunked" else block)
            produced[0] += 1
        await side.send(b"0\r\n\r\n" if framing == "chunked" else b"")
        if framing == "close":
            side.end()
        await side.read_to_end()

    async with Stage(web=flood) as stage:
        client = await stage.connect(receive_buffer=256 * 1024)
        await client.send(request_head(headers="Connection: close\r\n"))
        await stalls(stage, produced)
        assert produced[0] < blocks
        assert 0 < stage.gateway.statistics().held < BOUND
        reply = await client.reply()
        assert reply.complete
        assert hashlib.sha256(reply.body).digest() == hashlib.sha256(block * blocks).digest()


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_service_that_does_not_read_holds_the_client(framing: str) -> None:
    block = pattern(64 * 1024)
    blocks = 400
    produced = [0]
    go = asyncio.Event()

    async def lazy(side: ServiceSide) -> None:
        await side.read_head()
        side.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()
        side.reader._transport.resume_reading()  # type: ignore[attr-defined]
        digest = hashlib.sha256()
        for _ in range(blocks):
            if framing == "chunked":
                assert await side.reader.readline() == b"10000\r\n"
            digest.update(await side.read(len(block)))
            if framing == "chunked":
                await side.read(2)
        await side.send(ok(digest.hexdigest().encode()))

    async with Stage(web=lazy) as stage:
        client = await stage.connect()
        length = f"Content-Length: {blocks * len(block)}" if framing == "length" else "Transfer-Encoding: chunked"

        async def upload() -> None:
            await client.send(request_head("POST", headers=f"{length}\r\n"))
            for _ in range(blocks):
                await client.send(b"10000\r\n" + block + b"\r\n" if framing == "chunked" else block)
                produced[0] += 1
            if framing == "chunked":
                await client.send(b"0\r\n\r\n")

        uploading = asyncio.ensure_future(upload())
        await stage.relay.wait_opens(1)
        await stalls(stage, produced)
        assert produced[0] < blocks
        assert 0 < stage.gateway.statistics().held < BOUND
        go.set()
        assert (await client.reply()).body.decode() == hashlib.sha256(block * blocks).hexdigest()
        await uploading


async def test_an_upload_waits_for_its_stream_without_piling_up() -> None:
    async def sink(side: ServiceSide) -> None:
        length = int(read_request(await side.read_head())[2]["content-length"])
        await side.send(ok(hashlib.sha256(await side.read(length)).hexdigest().encode()))

    async with Stage(web=sink) as stage:
        stage.relay.answer_now.clear()
        client = await stage.connect()
        body = pattern(10 * MIB)
        uploading = asyncio.ensure_future(client.request("POST", body=body))
        await stage.relay.wait_opens(1)
        await stage.turn(300)
        assert 0 < stage.gateway.statistics().held < BOUND
        stage.relay.answer_now.set()
        assert (await uploading).body.decode() == hashlib.sha256(body).hexdigest()


async def test_responses_to_a_client_that_pipelines_and_does_not_read_do_not_pile_up() -> None:
    served = [0]

    async def serve(side: ServiceSide) -> None:
        while True:
            await side.read_head()
            served[0] += 1
            await side.send(ok(bytes(200_000)))

    async with Stage(web=serve, limits=GatewayLimits(max_ahead_bytes=10**6)) as stage:
        client = await stage.connect(receive_buffer=64 * 1024)
        await client.send(request_head() * 200)
        await stalls(stage, served)
        assert served[0] < 100
        assert stage.gateway.statistics().held < BOUND
        for _ in range(200):
            assert len((await client.reply()).body) == 200_000


async def test_refusals_to_a_client_that_does_not_read_do_not_pile_up() -> None:
    async with Stage(limits=GatewayLimits(high_water_bytes=64 * 1024)) as stage:
        client = await stage.connect(receive_buffer=4096)
        request = f"GET /nothing HTTP/1.1\r\nHost: gw\r\n{BEARER}\r\n"
        sending = asyncio.ensure_future(client.send(*[request * 100] * 2000))
        answered = [0]
        while not answered[0] or answered[0] != stage.gateway.statistics().requests:
            answered[0] = stage.gateway.statistics().requests
            await stage.turn(300)
        assert answered[0] < 200_000
        assert stage.gateway.statistics().held < BOUND
        sending.cancel()


async def test_a_slow_reader_does_not_hold_up_the_others() -> None:
    async def serve(side: ServiceSide) -> None:
        while True:
            path = read_request(await side.read_head())[1]
            await side.send(ok(bytes(10 * MIB) if path == "/large" else b"small"))

    async with Stage(web=serve) as stage:
        slow = await stage.connect(receive_buffer=64 * 1024)
        await slow.send(request_head(path="/large"))
        await stage.until(lambda: stage.gateway.statistics().held > 0)
        quick = await stage.connect()
        for _ in range(20):
            assert (await quick.get("/small")).body == b"small"


async def test_a_client_that_reads_the_end_of_a_response_slowly_is_not_taken_for_idle() -> None:
    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(ok(bytes(8 * MIB)))
        await side.read_to_end()

    async with Stage(web=serve, limits=GatewayLimits(high_water_bytes=16 * MIB)) as stage:
        client = await stage.connect(receive_buffer=64 * 1024)
        await client.send(request_head())
        await client.head()
        await stage.until(lambda: stage.gateway.statistics().active == 0)
        left = 8 * MIB
        while stage.gateway.statistics().held:
            stage.advance(stage.limits.keepalive_timeout + 1)
            left -= len(await client.read(512 * 1024))
            await stage.turn(300)
        assert len(await client.read(left)) == left
        assert (await client.get()).complete
