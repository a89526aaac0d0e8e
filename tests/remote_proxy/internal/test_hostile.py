"""Bytes that no caller of ours would send to the internal port: refused with a code, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.remote_proxy.wire import RawClient, connect, open_stream, stream_head, undisturbed

pytestmark = pytest.mark.anyio

TLS_HELLO = bytes.fromhex("16030100a5010000a10303")
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


async def refusal(client: RawClient) -> tuple[int, str]:
    """The refusal, after which the connection ends in an orderly way."""
    answer = await client.read_answer()
    assert await client.read_end() == b""
    assert answer.headers["connection"] == "close"
    return answer.status, answer.code


@pytest.mark.parametrize(
    "garbage",
    [b"\x00", b"\r\n", b"\xff\xfe\xfd", TLS_HELLO, b"1GET / HTTP/1.1\r\n\r\n", b"{}", b" GET / HTTP/1.1\r\n"],
    ids=repr,
)
async def test_what_does_not_begin_as_http_is_refused_at_once(tmp_path: Path, garbage: bytes) -> None:
    async with (
        running_relay(tmp_path, head_timeout=3600) as relay,
        undisturbed(relay),
        connect(relay.internal_url) as client,
    ):
        client.send(garbage)
        assert await refusal(client) == (400, "bad_request")


@pytest.mark.parametrize(
    "garbage",
    [
        HTTP2_PREFACE,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\x00: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"POST /internal/sessions/x/streams\r\n\r\n",
        b"POST /internal/sessions/x/streams HTTP/1.1\r\n folded: x\r\n\r\n",
        b"POST /internal/sessions/x/streams HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n",
    ],
    ids=repr,
)
async def test_a_malformed_head_is_refused(relay: RunningRelay, garbage: bytes) -> None:
    async with undisturbed(relay), connect(relay.internal_url) as client:
        client.send(garbage)
        async with asyncio.timeout(30):
            status = (await client.reader.readline()).split()[1]
        assert 400 <= int(status) < 500
        await client.wait_closed_by_peer()


@pytest.mark.parametrize("piece", [1, 1_000, 1_000_000], ids=lambda piece: f"{piece} bytes at a time")
@pytest.mark.parametrize(
    "start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"POST /internal/sessions/x/streams HTTP/1.1\r\nHost: "], ids=repr
)
async def test_a_head_without_an_end_is_refused_when_it_is_too_long(tmp_path: Path, start: bytes, piece: int) -> None:
    async with (
        running_relay(tmp_path, max_head_bytes=2_000) as relay,
        undisturbed(relay),
        connect(relay.internal_url) as client,
    ):
        client.send(start)
        for _ in range(2_000 // piece + 1):
            client.send(b"a" * piece)
            await asyncio.sleep(0)
        assert await refusal(client) == (431, "head_too_large")


async def test_a_head_that_ends_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    async with running_relay(tmp_path, max_head_bytes=2_000) as relay:
        await relay.attach("cam")
        for padding, expected in ((100, 101), (2_000, 431)):
            async with connect(relay.internal_url) as client:
                client.send(stream_head(relay, {"Padding": "p" * padding}))
                assert (await client.read_answer()).status == expected


@pytest.mark.parametrize(
    "start",
    [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST /internal/sessions/x/streams HTTP/1.1\r\nHost"],
    ids=repr,
)
async def test_a_head_that_does_not_come_is_not_waited_for(hasty_relay: RunningRelay, start: bytes) -> None:
    async with undisturbed(hasty_relay), connect(hasty_relay.internal_url) as client:
        client.send(start)
        assert await refusal(client) == (408, "head_timeout")


async def test_a_slow_head_is_not_given_more_time_for_each_byte(hasty_relay: RunningRelay) -> None:
    """One byte whenever the relay has turned its loop once; the head would take more turns than it has time."""
    async with undisturbed(hasty_relay), connect(hasty_relay.internal_url) as client:
        client.send(b"GET / HTTP/1.1\r\nX: ")
        answer = asyncio.ensure_future(client.read_answer())
        while not answer.done():
            client.send(b"a")
            # Another connection's answer paces the bytes: each is read before the next is sent.
            async with connect(hasty_relay.internal_url) as pace:
                pace.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                await pace.read_answer()
        assert (await answer).code == "head_timeout"


async def test_half_a_head_and_then_the_end(relay: RunningRelay) -> None:
    async with undisturbed(relay), connect(relay.internal_url) as client:
        client.send(b"GET / HTTP/1.1\r\n")
        client.end()
        assert await client.read_end() == b""
        await relay.until(lambda: relay.metric("internal_pending") == 0)


async def test_connections_that_say_nothing_are_bounded(tmp_path: Path) -> None:
    async with running_relay(tmp_path, max_pending_heads=8, head_timeout=3600) as relay, undisturbed(relay):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(8):
                await stack.enter_async_context(connect(relay.internal_url))
            await relay.until(lambda: relay.metric("internal_pending") == 8)
            async with connect(relay.internal_url) as client:
                answer = await client.read_answer()
                assert (answer.status, answer.code) == (503, "over_capacity")
                assert answer.headers["retry-after"] == "1"
                await client.wait_closed_by_peer()
        await relay.until(lambda: relay.metric("internal_pending") == 0)


async def test_a_connection_that_becomes_a_stream_or_a_request_is_pending_no_more(tmp_path: Path) -> None:
    async with running_relay(tmp_path, max_pending_heads=1, head_timeout=3600) as relay:
        await relay.attach("cam")
        async with open_stream(relay) as first, open_stream(relay) as second, connect(relay.internal_url) as third:
            third.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await third.read_answer()).status == 200
            for stream in (first, second):
                stream.send(b"x")
                assert await stream.read(1) == b"x"
            assert relay.metric("internal_pending") == 0


async def test_a_caller_without_the_key_cannot_make_the_relay_read_a_body(relay: RunningRelay) -> None:
    async with undisturbed(relay), connect(relay.internal_url) as client:
        client.send(b"PUT /internal/revocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert (await client.read_answer()).code == "unauthenticated"
