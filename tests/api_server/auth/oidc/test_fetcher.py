"""S5: documents that are huge, slow, cut or elsewhere, over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from api_server.auth.oidc.errors import ProviderUnavailableError
from api_server.auth.oidc.fetcher import HttpxFetcher

pytestmark = pytest.mark.anyio

TLS = ssl.create_default_context()
"""One for all: loading certificates takes longer than the tests."""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server that reads a head, and then does as `handler` says; gives its URL."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def saying(*parts: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return handler


async def refusal(handler: Handler, *, timeout: float = 30, max_bytes: int = 1000) -> ProviderUnavailableError:
    async with serving(handler) as url:
        fetcher = HttpxFetcher(url, tls=TLS, timeout=timeout, max_bytes=max_bytes)
        try:
            with pytest.raises(ProviderUnavailableError) as caught:
                await fetcher.get(url + "/jwks")
        finally:
            await fetcher.aclose()
        return caught.value


async def test_an_answer() -> None:
    async with serving(saying(OK + b"Content-Length: 2\r\n\r\n{}")) as url:
        fetcher = HttpxFetcher(url, tls=TLS)
        answer = await fetcher.get(url + "/jwks")
        assert (answer.status, answer.body) == (200, b"{}")
        await fetcher.aclose()


async def test_s5_a_huge_document_is_not_read() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    assert "more than 1000 bytes" in (await refusal(endless)).detail


async def test_s5_a_document_that_is_just_too_large() -> None:
    large = saying(OK + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001)
    assert "more than 1000 bytes" in (await refusal(large)).detail
    async with serving(saying(OK + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000)) as url:
        fetcher = HttpxFetcher(url, tls=TLS, max_bytes=1000)
        assert len((await fetcher.get(url)).body) == 1000
        await fetcher.aclose()


async def test_s5_a_slow_document_ends_though_it_never_stops() -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 1000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    assert "did not answer within" in (await refusal(dripping, timeout=0.3)).detail


async def test_s5_a_provider_that_says_nothing() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert (await refusal(silent, timeout=0.3)).status == 503


@pytest.mark.parametrize(
    "parts",
    [
        [OK + b"Content-Length: 100\r\n\r\n{"],
        [OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"],
        [b"HTTP/1.1 200"],
        [b""],
        [b"nonsense\r\n\r\n"],
        [OK + b"X: " + b"x" * 200_000 + b"\r\n\r\n"],
    ],
    ids=["cut", "cut-chunk", "cut-head", "nothing", "not-http", "huge-head"],
)
async def test_s5_a_cut_answer(parts: list[bytes]) -> None:
    assert (await refusal(saying(*parts))).retry_after == 5


async def test_s5_a_compressed_answer_is_not_unpacked() -> None:
    assert "compresses" in (await refusal(saying(OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"))).detail


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_s5_no_redirect_is_followed(status: int) -> None:
    asked = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(1)
        await saying(OK + b"Content-Length: 2\r\n\r\n{}")(reader, writer)

    async with serving(elsewhere) as other:
        head = f"HTTP/1.1 {status} Moved\r\nLocation: {other}/jwks\r\nContent-Length: 0\r\n\r\n".encode()
        assert "redirect" in (await refusal(saying(head))).detail
    assert asked == []


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        (b"HTTP/1.1 503 Down\r\nRetry-After: 20\r\n", 20),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: 0\r\n", 1),
        (b"HTTP/1.1 500 Down\r\nRetry-After: 99999999\r\n", 300),
        (b"HTTP/1.1 502 Down\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", 5),
        (b"HTTP/1.1 500 Down\r\nRetry-After: \xb2\r\n", 5),
        (b"HTTP/1.1 500 Down\r\n", 5),
    ],
)
async def test_a_provider_in_trouble_says_when_to_come_back(head: bytes, seconds: float) -> None:
    error = await refusal(saying(head + b"Content-Length: 0\r\n\r\n"))
    assert (error.code, error.retry_after) == ("sign_in_unavailable", seconds)


async def test_nobody_listens() -> None:
    async with serving(saying(b"")) as url:
        pass
    fetcher = HttpxFetcher(url, tls=TLS)
    with pytest.raises(ProviderUnavailableError, match="cannot be reached"):
        await fetcher.post(url + "/token", {"code": "secret-code"})
    await fetcher.aclose()


async def test_a_secret_that_is_sent_is_in_no_error() -> None:
    async with serving(saying(b"nonsense\r\n\r\n")) as url:
        fetcher = HttpxFetcher(url, tls=TLS)
        with pytest.raises(ProviderUnavailableError) as caught:
            await fetcher.post(url + "/token", {"client_secret": "very-secret"}, {"Authorization": "Basic c2VjcmV0"})
        await fetcher.aclose()
    assert "very-secret" not in f"{caught.value.detail} {caught.value!r}"
    assert "c2VjcmV0" not in f"{caught.value.detail} {caught.value!r}"
