"""Answers of an API that is none, is broken, or means harm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from common.crypto.device_keys import DeviceKey
from edge_agent.pairing import ApiClient
from edge_agent.pairing.errors import ApiRefusedError, ApiUnreachableError, PairingError

KEY = DeviceKey.generate()
JSON = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
RENEWED = b'{"session_token": "t", "expires_at": 1, "tunnel_url": "ws://r/tunnel"}'


def answer(body: bytes, status: bytes = b"200 OK", fields: bytes = b"", length: int | None = None) -> bytes:
    return JSON % (status, fields, len(body) if length is None else length, body)


async def ask(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> list[bytes]:
    """What a device asks of an API that serves so; gives the heads that it was sent."""
    asked: list[bytes] = []

    async def handle(stream: trio.SocketStream) -> None:
        try:
            received = b""
            while b"\r\n\r\n" not in received or b"proof" not in received:
                received += await stream.receive_some()
            asked.append(received)
            await serve(stream)
        except trio.BrokenResourceError:
            pass  # the device has had enough
        finally:
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        client = ApiClient(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", wall=lambda: 0.0)
        try:
            await client.renew(KEY, "dev-1")
        finally:
            await client.aclose()
            nursery.cancel_scope.cancel()
    return asked


def run(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> list[bytes]:
    return trio.run(ask, serve, clock=trio.testing.MockClock(autojump_threshold=0.2))


def error_of(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> PairingError:
    """The one error that it makes; a nursery wraps what comes out of it."""
    with pytest.raises(ExceptionGroup) as caught:
        run(serve)
    (error,) = caught.value.exceptions
    assert isinstance(error, PairingError)
    return error


def saying(text: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(text)

    return serve


def test_what_is_right_is_taken() -> None:
    assert len(run(saying(answer(RENEWED)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00\xff" * 100,
        b"HTTP/1.1 200 OK\r\n",
        answer(RENEWED, length=1000),
        answer(b""),
        answer(b"<html>hello</html>"),
        answer(b"[]"),
        answer(b'{"session_token": 1}'),
        answer(b"[" * 50_000),
        answer(b"x" * 100_000),
        answer(b"", b"302 Found", b"Location: http://127.0.0.1:1/\r\n"),
        answer(b"no", b"500 Internal Server Error"),
        answer(b'{"detail": 1}', b"403 Forbidden"),
    ],
    ids=[
        "nothing",
        "garbage",
        "cut head",
        "cut body",
        "empty",
        "a page",
        "a list",
        "types",
        "deep",
        "huge",
        "redirect",
        "500",
        "no problem",
    ],
)
def test_what_is_none_of_ours_is_an_api_that_cannot_be_reached(text: bytes) -> None:
    assert isinstance(error_of(saying(text)), ApiUnreachableError)


def test_an_answer_that_never_ends_is_given_up() -> None:
    async def drip(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        while True:
            await stream.send_all(b" ")
            await trio.sleep(5)

    error = error_of(drip)
    assert isinstance(error, ApiUnreachableError)
    assert "does not end" in error.detail


def test_silence_is_given_up() -> None:
    async def silent(_stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    assert isinstance(error_of(silent), ApiUnreachableError)


def test_a_refusal_keeps_its_code_and_when_to_come_back() -> None:
    problem = b'{"code": "too_many_codes", "detail": "wait"}'
    error = error_of(saying(answer(problem, b"429 Too Many Requests", b"Retry-After: 7\r\n")))
    assert isinstance(error, ApiRefusedError)
    assert (error.api_code, error.http_status, error.retry_after) == ("too_many_codes", 429, 7)


@pytest.mark.parametrize("field", [b"", b"Date: yesterday\r\n", b"Date: Sun, 99 Nov 2026 00:00:00 GMT\r\n"])
def test_a_stale_proof_without_a_time_is_not_tried_again(field: bytes) -> None:
    error = error_of(saying(answer(b'{"code": "stale_proof"}', b"401 Unauthorized", field)))
    assert isinstance(error, ApiRefusedError)
    assert error.api_code == "stale_proof"


def test_a_stale_proof_is_made_anew_once_only() -> None:
    date = b"Date: Sun, 22 Nov 2026 08:00:00 GMT\r\n"
    error = error_of(saying(answer(b'{"code": "stale_proof"}', b"401 Unauthorized", date + b"Connection: close\r\n")))
    assert isinstance(error, ApiRefusedError)
