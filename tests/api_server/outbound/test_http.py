"""Answers that are huge, slow, cut, compressed or no answers, over real sockets; and how requests are written."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from api_server.outbound.errors import (
    AnswerMalformedError,
    AnswerTooLargeError,
    OutboundError,
    TargetForbiddenError,
    TargetTimeoutError,
    TargetUnreachableError,
)
from api_server.outbound.outbound import Outbound
from tests.api_server.outbound.stage import OK, Handler, listening, saying

pytestmark = pytest.mark.anyio


async def refusal(handler: Handler, *, timeout: float = 30) -> OutboundError:
    outbound = Outbound(["127.0.0.1"])
    async with listening(handler) as server:
        url = f"http://127.0.0.1:{server.port}/?secret=hunter2"
        with pytest.raises(OutboundError) as caught:
            await outbound.http.request("GET", url, headers={"X-Key": "hunter2"}, timeout=timeout, max_bytes=1000)
    await outbound.aclose()
    assert "hunter2" not in str(caught.value)
    return caught.value


async def test_an_endless_answer_is_not_read() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    assert isinstance(await refusal(endless), AnswerTooLargeError)


async def test_an_answer_that_says_it_is_too_large_is_not_read_at_all() -> None:
    assert isinstance(await refusal(saying(OK + b"Content-Length: 1001\r\n\r\n")), AnswerTooLargeError)


async def test_an_endless_head_is_not_read() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        while True:
            writer.write(b"X-More: " + b"x" * 8192 + b"\r\n")
            await writer.drain()

    assert isinstance(await refusal(endless), AnswerMalformedError)


async def test_a_compressed_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(1_000_000))
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    assert isinstance(await refusal(saying(head, bomb)), AnswerMalformedError)


async def test_a_dripping_answer_ends_by_the_deadline() -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 1000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    failure = await refusal(dripping, timeout=0.3)
    assert isinstance(failure, TargetTimeoutError)
    assert failure.status == 504


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", OK + b"Content-Length: 10\r\n\r\ncut", OK + b"Content-Length: x\r\n\r\n"]
)
async def test_an_answer_that_is_cut_or_none(answer: bytes) -> None:
    assert isinstance(await refusal(saying(answer)), AnswerMalformedError)


async def test_a_port_where_nobody_listens() -> None:
    outbound = Outbound(["127.0.0.1"])
    async with listening(saying()) as server:
        url = f"http://127.0.0.1:{server.port}/"
    with pytest.raises(TargetUnreachableError):
        await outbound.http.request("GET", url, timeout=5, max_bytes=1000)
    await outbound.aclose()


async def test_a_request_as_it_is_sent() -> None:
    outbound = Outbound(["127.0.0.1"])
    async with listening(saying(OK + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000)) as server:
        url = f"http://127.0.0.1:{server.port}/token?a=1"
        answer = await outbound.http.request(
            "POST", url, headers={"X-Key": "k"}, content=b"{}", timeout=5, max_bytes=1000
        )
        assert (answer.status, len(answer.body)) == (200, 1000)
        assert server.heads[0].decode().split("\r\n") == [
            "POST /token?a=1 HTTP/1.1",
            f"host: 127.0.0.1:{server.port}",
            "user-agent: homeport",
            "accept: */*",
            "accept-encoding: identity",
            "x-key: k",
            "content-length: 2",
            "",
            "",
        ]
    await outbound.aclose()


@pytest.mark.parametrize(
    "headers",
    [{"Host": "x"}, {"Content-Length": "1"}, {"Transfer-Encoding": "chunked"}, {"X": "a\r\nY: b"}, {"X\n": "a"}],
)
async def test_fields_that_would_change_how_a_request_is_read(headers: dict[str, str]) -> None:
    outbound = Outbound(["127.0.0.1"])
    with pytest.raises(ValueError, match="field"):
        await outbound.http.request("GET", "http://127.0.0.1:1/", headers=headers, timeout=5, max_bytes=1000)
    await outbound.aclose()


async def test_what_was_saved_when_more_was_allowed_is_refused_when_it_is_used() -> None:
    outbound = Outbound()
    with pytest.raises(TargetForbiddenError):
        await outbound.http.request("GET", "http://provider.test/", timeout=5, max_bytes=1000)
    await outbound.aclose()
