"""Which stream a request goes out on: idle ones, stale ones, fresh ones, and what is sent twice."""

from __future__ import annotations

import asyncio

import pytest

from api_server.relay import StreamPool
from tests.api_server.gateway.stage import Stage, answering, ok, request_head
from tests.api_server.relay.fake_relay import ServiceSide

pytestmark = pytest.mark.anyio


class Fickle:
    """A service that answers `good` requests on each stream, and ends it instead of answering the next."""

    def __init__(self, good: int = 1, *, by_reset: bool = False, answer: bytes = b"") -> None:
        self.good = good
        self.by_reset = by_reset
        self.answer = answer
        """What it still says to the request that it does not answer."""
        self.heads: list[bytes] = []
        self.streams = 0

    async def __call__(self, side: ServiceSide) -> None:
        self.streams += 1
        for _ in range(self.good):
            head = await side.read_head()
            self.heads.append(head)
            await side.send(ok(b"") if head.startswith(b"HEAD") else ok())
        self.heads.append(await side.read_head())
        if self.answer:
            await side.send(self.answer)
        if self.by_reset:
            side.reset()


@pytest.mark.parametrize("by_reset", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
async def test_a_request_that_may_be_repeated_is_sent_again_once(method: str, by_reset: bool) -> None:
    service = Fickle(by_reset=by_reset)
    async with Stage(web=service) as stage:
        client = await stage.connect()
        for _ in range(3):
            await client.send(request_head(method))
            assert (await client.reply(head_only=method == "HEAD")).status == 200
        # The second and third met a stream that had been used: it was ended under them.
        assert service.streams == 3
        assert len(service.heads) == 5
        assert stage.metric("stale_retries_total") == 2


async def test_what_is_sent_again_is_the_same_request() -> None:
    service = Fickle()
    async with Stage(web=service) as stage:
        client = await stage.connect()
        await client.get()
        await client.get("/again?x=1", headers="X-Mine: 1\r\n")
        lost, again = service.heads[1], service.heads[2]
        assert _without_trace(lost) == _without_trace(again)
        assert b"X-Mine: 1" in again


def _without_trace(head: bytes) -> list[bytes]:
    return [line for line in head.split(b"\r\n") if not line.startswith(b"traceparent")]


async def test_a_fresh_stream_that_ends_is_not_tried_again() -> None:
    service = Fickle(good=0)
    async with Stage(web=service) as stage:
        client = await stage.connect()
        assert (await client.get()).code == "stream_reset"
        assert service.streams == 1


@pytest.mark.parametrize("answer", [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_a_request_that_was_answered_by_a_single_byte_is_not_repeated(answer: bytes) -> None:
    service = Fickle(answer=answer)
    async with Stage(web=service) as stage:
        client = await stage.connect()
        await client.get()
        await client.send(request_head())
        reply = await client.reply()
        if reply.status == 103:
            reply = await client.reply()
        assert reply.code == "stream_reset"
        assert service.streams == 1


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("POST", "Content-Length: 0\r\n", ""),
        ("POST", "Content-Length: 4\r\n", "body"),
        ("PATCH", "Content-Length: 4\r\n", "body"),
        ("PUT", "Content-Length: 4\r\n", "body"),
        ("PUT", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("BREW", "", ""),
    ],
)
async def test_a_request_that_must_not_be_repeated_is_not(method: str, headers: str, body: str) -> None:
    service = Fickle()
    async with Stage(web=service) as stage:
        client = await stage.connect()
        await client.get()
        await client.send(request_head(method, headers=headers) + body)
        reply = await client.reply()
        assert (reply.status, reply.code) == (502, "stream_reset")
        assert service.streams == 1
        assert stage.metric("stale_retries_total") == 0


async def test_it_takes_only_a_stream_that_was_in_use_a_moment_ago() -> None:
    service = Fickle(good=1)
    async with Stage(web=service) as stage:
        client = await stage.connect()
        await client.get()
        stage.advance(stage.limits.unsafe_reuse + 0.1)
        # The idle stream would fail it, as a server's keep-alive time may be up: it gets a fresh one.
        assert (await client.request("POST", body=b"body")).status == 200
        assert service.streams == 2


async def test_many_at_once_have_a_stream_each_and_keep_them() -> None:
    together = asyncio.Barrier(8)
    streams = 0

    async def serve(side: ServiceSide) -> None:
        nonlocal streams
        streams += 1
        while True:
            await side.read_head()
            await together.wait()
            await side.send(ok())

    async with Stage(web=serve) as stage:
        clients = [await stage.connect() for _ in range(8)]
        for _ in range(3):
            replies = await asyncio.gather(*(client.get() for client in clients))
            assert [reply.body for reply in replies] == [b"hello"] * 8
        assert streams == 8
        assert len(stage.pool) == 8


async def test_one_lookup_serves_all_who_want_the_device() -> None:
    async with Stage(web=answering(ok())) as stage:
        stage.relay.find_now.clear()
        clients = [await stage.connect() for _ in range(10)]
        waiting = [asyncio.ensure_future(client.get()) for client in clients]
        await stage.until(lambda: stage.gateway.statistics().active == 10)
        await stage.relay.wait_requests(1)
        stage.relay.find_now.set()
        assert [(await reply).status for reply in waiting] == [200] * 10
        assert len(stage.relay.requests) == 1


async def test_a_device_that_reconnects_is_found_again_at_once() -> None:
    async with Stage(web=answering(ok(b"old"))) as stage:
        client = await stage.connect()
        assert (await client.get()).body == b"old"
        # The gateway still believes in the old session, and its streams are gone with it.
        stage.relay.online("cam", web=answering(ok(b"new")))
        stage.pool.close()
        assert (await client.get()).body == b"new"
        assert (await client.request("POST", body=b"x")).body == b"new"


async def test_a_stream_that_speaks_out_of_turn_is_not_used_again() -> None:
    said = asyncio.Event()
    streams = 0

    async def chatty(side: ServiceSide) -> None:
        nonlocal streams
        streams += 1
        await side.read_head()
        await side.send(ok())
        await said.wait()
        await side.send(ok(b"for whoever comes next"))
        await side.was_reset()

    async with Stage(web=chatty) as stage:
        client = await stage.connect()
        assert (await client.get()).body == b"hello"
        said.set()
        await stage.until(lambda: stage.pool.statistics().lost == 1)
        assert (await client.get()).body == b"hello"
        assert streams == 2


async def test_idle_streams_are_ended_in_good_order() -> None:
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(ok())
        ended.set_result(await side.read_to_end())

    async with Stage(web=serve, pool=StreamPool(idle_timeout=5)) as stage:
        client = await stage.connect()
        await client.get()
        stage.advance(4)
        await stage.turn()
        assert not ended.done()
        stage.advance(2)
        assert await ended == b""
        assert stage.pool.statistics().expired == 1
