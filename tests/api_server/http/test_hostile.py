"""Bytes that no client should send: each is refused with a code, quoted nowhere, and nobody else notices."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from common.crypto.api_tokens import new_api_token
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.rest import ADMIN, running_api
from tests.api_server.wire import exchange, exchange_bytes

pytestmark = pytest.mark.anyio

CANARY = new_api_token().reveal()
KEY = f"X-API-Key: {ADMIN.reveal()}\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"\r\n\r\n\x00\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / SMTP/1.0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nbad header {CANARY}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer {CANARY}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\n folded: {CANARY}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n {CANARY}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\nX: {CANARY}\0\r\n\r\n".encode(),
        f"GET /{'a' * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\nX: {CANARY}{'a' * 20_000}\r\n\r\n".encode(),
        ("GET / HTTP/1.1\r\n" + "".join(f"X-{n}: {n}\r\n" for n in range(10_000)) + "\r\n").encode(),
        f"POST / HTTP/1.1\r\nHost: x\r\n{KEY}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef".encode(),
        f"POST / HTTP/1.1\r\nHost: x\r\n{KEY}Content-Length: -5\r\n\r\n".encode(),
        f"POST / HTTP/1.1\r\nHost: x\r\n{KEY}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(),
        f"POST / HTTP/1.1\r\nHost: x\r\n{KEY}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n".encode(),
    ],
    ids=map(str, itertools.count()),  # the canary is another in each process, and has no place in a name
)
async def test_what_is_not_http_is_a_400_that_quotes_nothing(
    signer: SessionTokenSigner, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_api(signer) as api:
        status, problem = await exchange(api.port, request_bytes)
        assert (status, problem["code"]) == (400, "bad_request")
        assert CANARY[3:] not in str(problem)
        assert (await api.get("/api/auth/me")).status_code == 200
    assert CANARY[3:] not in caplog.text + api.logs.getvalue()


async def test_a_malformed_request_ends_its_connection(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        smuggled = f"GET / HTTP/1.1\r\nbad\r\n\r\nGET /api/auth/me HTTP/1.1\r\nHost: x\r\n{KEY}\r\n".encode()
        received = await exchange_bytes(api.port, smuggled)
        assert received.count(b"HTTP/1.") == 1 + received.count(b"not HTTP/1.1 as")
        assert received.split()[1] == b"400"
        assert b"administration token" not in received


async def test_two_requests_at_once_are_answered_in_order(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        first = f"GET /api/auth/me HTTP/1.1\r\nHost: x\r\n{KEY}\r\n"
        pipelined = f"{first}GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        received = await exchange_bytes(api.port, pipelined)
        assert received.count(b"HTTP/1.1 200") == 2
        assert received.index(b"administration token") < received.index(b'"ok"')


async def test_clients_that_never_finish_a_head_are_in_nobodys_way(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        slow = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(200)]
        for _, writer in slow:
            writer.write(b"GET / HTTP/1.1\r\nHost:")
        assert (await api.get("/api/auth/me")).status_code == 200
        for _, writer in slow:
            writer.close()


async def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_fault(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(
            f"POST /api/devices/front-door/session-tokens HTTP/1.1\r\nHost: x\r\n{KEY}"
            "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{".encode()
        )
        await writer.drain()
        writer.transport.abort()
        assert (await api.get("/api/auth/me")).status_code == 200
        assert "request failed" not in api.logs.getvalue()
