"""The device's handshake: against our relay's, and against answers of every other kind."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.secret import Secret
from common.tunnel.client_handshake import ClientHandshake, ClientOpened, parse_tunnel_url
from common.tunnel.config import HandshakeLimits
from common.tunnel.errors import HandshakeError, HandshakeFailedError, HandshakeRefusedError
from common.tunnel.handshake import Admission, HandshakeRequest, Refusal
from common.tunnel.interfaces import Subprotocol
from common.tunnel.server_handshake import ServerHandshake
from tests.common.tunnel.fakes import RecordingRelay

URL = parse_tunnel_url("ws://relay.example:3800/tunnel")
BOTH = (Subprotocol.HOMEPORT_V1, Subprotocol.YAMUX)


def client(subprotocols: Sequence[Subprotocol] = BOTH, limits: HandshakeLimits | None = None) -> ClientHandshake:
    return ClientHandshake(
        URL,
        token=Secret("abc.def"),
        subprotocols=subprotocols,
        user_agent="agent/1",
        limits=limits or HandshakeLimits(max_head=1024, max_body=4096),
    )


def ask(handshake: ClientHandshake, decision: Admission | Refusal) -> tuple[bytes, HandshakeRequest]:
    """What our relay answers, and what it was asked."""
    asked: list[HandshakeRequest] = []

    def admit(request: HandshakeRequest) -> Admission | Refusal:
        asked.append(request)
        return decision

    server = ServerHandshake(admit, limits=HandshakeLimits(), remote_address="")
    server.receive(handshake.request)
    return server.take_output(), asked[0]


def feed(handshake: ClientHandshake, data: bytes, chunk: int | None = None) -> ClientOpened | None:
    """Feed an answer; an error ends it."""
    opened: ClientOpened | None = None
    for i in range(0, len(data), chunk or len(data)):
        assert opened is None
        opened = handshake.receive(data[i : i + (chunk or len(data))])
    return opened


def good_answer(handshake: ClientHandshake) -> bytes:
    return ask(handshake, Admission(handler=RecordingRelay()))[0]


@pytest.mark.parametrize("chunk", [None, 1, 3])
@pytest.mark.parametrize("subprotocol", BOTH)
def test_our_relay_agrees(subprotocol: Subprotocol, chunk: int | None) -> None:
    handshake = client((subprotocol,))
    answer, asked = ask(handshake, Admission(handler=RecordingRelay()))
    assert asked.token == Secret("abc.def")
    assert asked.headers["user-agent"] == "agent/1"
    assert asked.headers["host"] == "relay.example:3800"
    assert feed(handshake, answer, chunk) == ClientOpened(subprotocol=subprotocol, rest=b"")


def test_bytes_after_the_answer_are_kept() -> None:
    handshake = client()
    opened = handshake.receive(good_answer(handshake) + b"\x82\x05early")
    assert opened == ClientOpened(subprotocol=Subprotocol.HOMEPORT_V1, rest=b"\x82\x05early")


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize(
    ("status", "code", "retry_after", "final"),
    [
        (401, "session_token_expired", None, True),
        (403, "revoked", None, True),
        (409, "replaced", None, False),
        (429, "rate_limited", 3.0, False),
        (503, "over_capacity", 0.0, False),
    ],
)
def test_our_relay_refuses(status: int, code: str, retry_after: float | None, final: bool, chunk: int | None) -> None:
    handshake = client()
    refusal = Refusal(status=status, code=code, title="No", detail="because", retry_after=retry_after)
    with pytest.raises(HandshakeRefusedError, match="because") as caught:
        feed(handshake, ask(handshake, refusal)[0], chunk)
    error = caught.value
    assert (error.http_status, error.reason, error.retry_after, error.final) == (status, code, retry_after, final)


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("body", "detail", "reason"),
    [
        (b"<h1>Bad gateway</h1>", "HTTP 502", ""),
        (b"", "HTTP 502", ""),
        (b"[1, 2]", "HTTP 502", ""),
        (b'{"code": 7, "detail": ["x"]}', "HTTP 502", ""),
        (b'{"title": "Down"}', "Down", ""),
        (b"[" * 4000, "HTTP 502", ""),
        (b"\xff\xfe", "HTTP 502", ""),
        (json.dumps({"code": "c" * 999, "detail": "d" * 3000}).encode(), "d" * 1024, "c" * 128),
    ],
)
def test_a_refusal_of_something_else_on_the_way(body: bytes, detail: str, reason: str) -> None:
    with pytest.raises(HandshakeRefusedError) as caught:
        client().receive(answer("502 Bad Gateway", body))
    assert caught.value.http_status == 502
    assert caught.value.detail == detail
    assert caught.value.reason == reason
    assert not caught.value.final


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (("Retry-After: 120",), 120.0),
        (("Retry-After: 99999999999999999999",), 86_400.0),
        (("Retry-After: Sun, 22 Nov 2026 10:00:30 GMT", "Date: Sun, 22 Nov 2026 10:00:00 GMT"), 30.0),
        (("Retry-After: Sun, 22 Nov 2026 09:00:00 GMT", "Date: Sun, 22 Nov 2026 10:00:00 GMT"), 0.0),
        (("Retry-After: Sun, 22 Nov 2026 10:00:30 GMT",), None),
        (("Retry-After: soon", "Date: Sun, 22 Nov 2026 10:00:00 GMT"), None),
        (("Retry-After: -5",), None),
        (("Retry-After: \xb2",), None),
        ((), None),
    ],
)
def test_retry_after(headers: tuple[str, ...], seconds: float | None) -> None:
    with pytest.raises(HandshakeRefusedError) as caught:
        client().receive(answer("503 Service Unavailable", b"", *headers))
    assert caught.value.retry_after == seconds


def test_a_refusal_that_ends_with_the_connection() -> None:
    handshake = client()
    assert handshake.receive(b'HTTP/1.1 403 Forbidden\r\n\r\n{"code": "revoked", "detail": "gone"}') is None
    error = handshake.receive_eof()
    assert isinstance(error, HandshakeRefusedError)
    assert (error.http_status, error.reason, error.final) == (403, "revoked", True)


def test_a_refusal_whose_body_is_cut_off_keeps_its_status() -> None:
    handshake = client()
    assert handshake.receive(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\n{") is None
    error = handshake.receive_eof()
    assert isinstance(error, HandshakeRefusedError)
    assert error.http_status == 401


@pytest.mark.parametrize("length", ["", "Content-Length: 900000\r\n"])
def test_a_refusal_with_an_endless_body_keeps_its_status(length: str) -> None:
    handshake = client()
    assert handshake.receive(f"HTTP/1.1 403 Forbidden\r\n{length}\r\n".encode()) is None
    assert handshake.receive(b"x" * 4096) is None
    with pytest.raises(HandshakeRefusedError, match="without a reason") as caught:
        handshake.receive(b"x")
    assert caught.value.http_status == 403


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"HTTP/1.1 101", b"HTTP/1.0 101", "not HTTP/1.1"),
        (b"HTTP/1.1 101", b"SSH-2.0-Open", "not HTTP/1.1"),
        (b"Upgrade: websocket", b"Upgrade: h2c", "no WebSocket handshake"),
        (b"Connection: Upgrade", b"Connection: close", "no WebSocket handshake"),
        (b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: x", "no WebSocket handshake"),
        (b"Sec-WebSocket-Protocol: homeport.v1", b"Sec-WebSocket-Protocol: chat", "no WebSocket handshake"),
        (b"Sec-WebSocket-Protocol: homeport.v1\r\n", b"", "names no subprotocol"),
        (b"Upgrade: websocket", b"Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: websocket", "no WebSocket"),
        (b"Upgrade: websocket", b"nonsense\r\nUpgrade: websocket", "no WebSocket handshake"),
        (b"Upgrade: websocket", b"X: " + b"a" * 1024, "over 1024 bytes"),
    ],
)
def test_an_answer_that_is_no_relays(old: bytes, new: bytes, why: str) -> None:
    handshake = client()
    wrong = good_answer(handshake).replace(old, new)
    with pytest.raises(HandshakeFailedError, match=why):
        feed(handshake, wrong)


def test_garbage_is_not_waited_for() -> None:
    with pytest.raises(HandshakeFailedError, match=r"not HTTP/1\.1"):
        client().receive(b"220 smtp.example ESMTP\r\n")


def test_an_endless_head() -> None:
    handshake = client()
    assert handshake.receive(b"HTTP/1.1 200 OK\r\n" + b"a" * 1000) is None
    with pytest.raises(HandshakeFailedError, match="over 1024"):
        handshake.receive(b"a" * 100)


def test_an_answer_that_cannot_be_read() -> None:
    with pytest.raises(HandshakeFailedError, match="cannot be read"):
        client().receive(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n")


def test_no_answer() -> None:
    assert isinstance(client().receive_eof(), HandshakeFailedError)


@given(st.binary(max_size=600), st.integers(1, 200), st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 403 X\r\n\r\n"]))
def test_no_bytes_raise_anything_but_a_handshake_error(data: bytes, chunk: int, start: bytes) -> None:
    handshake = client()
    try:
        assert feed(handshake, start + data or b"x", chunk) is None
    except HandshakeError:
        return
    assert isinstance(handshake.receive_eof(), HandshakeError)


@pytest.mark.parametrize("url", ["http://relay.example", "relay.example:3800", "ws://", "wss://x:99999/", "ws://[::1"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(HandshakeFailedError, match="ws:// or wss://"):
        parse_tunnel_url(url)


def test_a_credential_belongs_in_no_url() -> None:
    with pytest.raises(HandshakeFailedError, match="session token is the credential") as caught:
        parse_tunnel_url("wss://user:hunter2@relay.example/tunnel")
    assert "hunter2" not in str(caught.value)
