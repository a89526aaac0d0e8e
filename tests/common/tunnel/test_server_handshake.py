"""The relay's handshake: what opens a tunnel, and how everything else is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.http11 import Response
from websockets.uri import parse_uri

from common.tunnel.config import HandshakeLimits
from common.tunnel.handshake import Admission, HandshakeRequest, PlainAnswer, Refusal
from common.tunnel.interfaces import Subprotocol
from common.tunnel.server_handshake import ServerHandshake
from tests.common.tunnel.fakes import RecordingRelay

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3

LIMITS = HandshakeLimits(max_head=2048)


def request(
    *,
    line: str = "GET /tunnel HTTP/1.1",
    without: tuple[str, ...] = (),
    extra: tuple[str, ...] = (),
    **changed: str,
) -> bytes:
    """A good request, or one with headers changed (`_` for `-`), left out or added."""
    headers = {
        "host": "relay.example",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
        "sec-websocket-protocol": "homeport.v1",
        "authorization": "Bearer abc.def.ghi",
    }
    headers.update({name.replace("_", "-"): value for name, value in changed.items()})
    lines = [f"{name}: {value}" for name, value in headers.items() if name not in without]
    return "\r\n".join([line, *lines, *extra]).encode("latin-1") + b"\r\n\r\n"


class Attempt:
    """One handshake and what it was answered."""

    def __init__(
        self,
        admit: Callable[[HandshakeRequest], Admission | Refusal] | None = None,
        respond: Callable[[str], PlainAnswer | None] | None = None,
        limits: HandshakeLimits = LIMITS,
    ) -> None:
        self.asked: list[HandshakeRequest] = []
        self.relay = RecordingRelay()
        self.admit = admit
        self.handshake = ServerHandshake(self._admit, respond=respond, limits=limits, remote_address="192.0.2.7:4711")

    def _admit(self, asked: HandshakeRequest) -> Admission | Refusal:
        self.asked.append(asked)
        return Admission(handler=self.relay) if self.admit is None else self.admit(asked)

    def feed(self, data: bytes, chunk: int | None = None) -> Attempt:
        for i in range(0, len(data), chunk or len(data)):
            self.handshake.receive(data[i : i + (chunk or len(data))])
        return self

    def answer(self) -> Response:
        """What was sent, as another implementation reads it."""
        client = ClientProtocol(parse_uri("ws://relay.example/tunnel"))
        client.receive_data(self.handshake.take_output())
        client.receive_eof()
        (response,) = client.events_received()
        assert isinstance(response, Response)
        return response

    def problem(self) -> dict[str, Any]:
        """The refusal that was sent: everything that all refusals have is checked."""
        assert self.handshake.opened is None
        assert self.handshake.finished
        response = self.answer()
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.headers["Connection"] == "close"
        assert response.headers["Cache-Control"] == "no-store"
        problem = json.loads(bytes(response.body))
        assert problem["status"] == response.status_code
        assert problem["type"] == f"urn:homeport:error:{problem['code']}"
        assert problem["title"]
        assert problem["detail"]
        problem["headers"] = response.headers
        return dict(problem)


@pytest.mark.parametrize("chunk", [None, 1, 2, 7, 100])
def test_a_good_request_opens_a_tunnel(chunk: int | None) -> None:
    attempt = Attempt().feed(request(), chunk)
    opened = attempt.handshake.opened
    assert opened is not None
    assert opened.subprotocol is Subprotocol.HOMEPORT_V1
    assert opened.handler is attempt.relay
    assert opened.rest == b""
    assert not attempt.handshake.finished
    (asked,) = attempt.asked
    assert asked.token.reveal() == "abc.def.ghi"
    assert asked.remote_address == "192.0.2.7:4711"
    assert attempt.handshake.take_output() == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\nSec-WebSocket-Protocol: homeport.v1\r\n\r\n"
    )
    assert attempt.handshake.take_output() == b""


def test_bytes_after_the_head_are_kept() -> None:
    attempt = Attempt().feed(request() + b"\x82\x80early")
    assert attempt.handshake.opened is not None
    assert attempt.handshake.opened.rest == b"\x82\x80early"
    attempt.feed(b"ignored from here on")
    assert attempt.handshake.opened.rest == b"\x82\x80early"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("homeport.v1", Subprotocol.HOMEPORT_V1),
        ("yamux", Subprotocol.YAMUX),
        ("yamux, homeport.v1", Subprotocol.HOMEPORT_V1),
        ("homeport.v9, chat, yamux", Subprotocol.YAMUX),
    ],
)
def test_the_relays_preference_decides(offered: str, chosen: Subprotocol) -> None:
    attempt = Attempt().feed(request(sec_websocket_protocol=offered))
    assert attempt.handshake.opened is not None
    assert attempt.handshake.opened.subprotocol is chosen
    assert attempt.asked[0].subprotocol is chosen
    assert attempt.answer().headers["Sec-WebSocket-Protocol"] == chosen


def test_admission_sees_the_headers_but_not_the_token_among_them() -> None:
    extra = ("X-Forwarded-For: 192.0.2.1", "X-FORWARDED-FOR: 192.0.2.2", "User-Agent: agent/1")
    attempt = Attempt().feed(request(line="GET /tunnel?via=lb HTTP/1.1", extra=extra))
    headers = attempt.asked[0].headers
    assert headers["x-forwarded-for"] == "192.0.2.1, 192.0.2.2"
    assert headers["user-agent"] == "agent/1"
    assert "authorization" not in headers
    assert "abc.def.ghi" not in repr(attempt.asked[0])


REFUSED = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01", 400, "invalid_request"),
    "lower case": (b"get /tunnel HTTP/1.1\r\n\r\n", 400, "invalid_request"),
    "a NUL": (b"\0", 400, "invalid_request"),
    "no version": (b"GET /tunnel\r\n\r\n", 400, "invalid_request"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 400, "invalid_request"),
    "a header without colon": (request(extra=("nonsense",)), 400, "invalid_request"),
    "a header name with a space": (request(extra=("a b: c",)), 400, "invalid_request"),
    "a folded header": (request(extra=("a: b", "\tc")), 400, "invalid_request"),
    "a NUL in a header": (request(extra=("a: \0",)), 400, "invalid_request"),
    "a bare LF": (request(extra=("a: b\nc: d",)), 400, "invalid_request"),
    "a path that is not ASCII": (request(line="GET /t\xfcnnel HTTP/1.1"), 400, "invalid_request"),
    "a body": (request(extra=("Content-Length: 3",)), 400, "invalid_request"),
    "a chunked body": (request(extra=("Transfer-Encoding: chunked",)), 400, "invalid_request"),
    "HTTP/1.0": (request(line="GET /tunnel HTTP/1.0"), 505, "http_version_not_supported"),
    "POST": (request(line="POST /tunnel HTTP/1.1"), 405, "method_not_allowed"),
    "no upgrade": (request(without=("upgrade",)), 426, "upgrade_required"),
    "no connection": (request(without=("connection",)), 426, "upgrade_required"),
    "another upgrade": (request(upgrade="h2c"), 426, "upgrade_required"),
    "another version": (request(sec_websocket_version="8"), 426, "upgrade_required"),
    "no version header": (request(without=("sec-websocket-version",)), 426, "upgrade_required"),
    "no key": (request(without=("sec-websocket-key",)), 400, "invalid_handshake"),
    "a short key": (request(sec_websocket_key="AAAA"), 400, "invalid_handshake"),
    "a key that is no base64": (request(sec_websocket_key="*" * 24), 400, "invalid_handshake"),
    "two keys": (request(extra=(f"Sec-WebSocket-Key: {KEY}",)), 400, "invalid_handshake"),
    "no subprotocol": (request(without=("sec-websocket-protocol",)), 400, "subprotocol_required"),
    "other subprotocols": (request(sec_websocket_protocol="chat, homeport.v2"), 400, "subprotocol_required"),
    "a broken subprotocol header": (request(sec_websocket_protocol="a b"), 400, "invalid_handshake"),
    "no token": (request(without=("authorization",)), 401, "missing_session_token"),
    "an empty token": (request(authorization="Bearer "), 401, "missing_session_token"),
    "another scheme": (request(authorization="Basic abc"), 401, "missing_session_token"),
    "a token with a space": (request(authorization="Bearer a b"), 401, "missing_session_token"),
    "two tokens": (request(extra=("Authorization: Bearer other",)), 400, "invalid_handshake"),
    "another path": (request(line="GET /tunnels HTTP/1.1"), 404, "not_found"),
    "a path below": (request(line="GET /tunnel/x HTTP/1.1"), 404, "not_found"),
    "POST elsewhere": (request(line="POST /healthz HTTP/1.1"), 405, "method_not_allowed"),
    "a head over the limit": (request(extra=("X: " + "a" * 2048,)), 431, "head_too_large"),
    "an endless head": (b"GET /tunnel HTTP/1.1\r\nX: " + b"a" * 3000, 431, "head_too_large"),
    "an endless line": (b"GET /" + b"a" * 3000, 431, "head_too_large"),
}


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_handshake_is_refused_with_a_code(name: str, chunk: int | None) -> None:
    data, status, code = REFUSED[name]
    attempt = Attempt().feed(data, chunk)
    problem = attempt.problem()
    assert (problem["status"], problem["code"]) == (status, code)
    assert attempt.asked == []
    # What comes afterwards changes nothing.
    attempt.feed(request())
    assert attempt.handshake.opened is None
    assert attempt.handshake.take_output() == b""


def test_lines_over_the_librarys_own_limits_are_refused_too() -> None:
    limits = HandshakeLimits(max_head=1_000_000)
    assert Attempt(limits=limits).feed(request(extra=("X: " + "a" * 9000,))).problem()["code"] == "head_too_large"
    assert Attempt(limits=limits).feed(request(extra=("X: a",) * 200)).problem()["code"] == "head_too_large"
    long_line = request(line="GET /" + "a" * 9000 + " HTTP/1.1")
    assert Attempt(limits=limits).feed(long_line).problem()["code"] == "request_line_too_long"


def test_refusals_say_what_would_do() -> None:
    assert Attempt().feed(request(line="PUT /tunnel HTTP/1.1")).problem()["headers"]["Allow"] == "GET"
    headers = Attempt().feed(request(sec_websocket_version="12")).problem()["headers"]
    assert headers["Sec-WebSocket-Version"] == "13"
    assert headers["Upgrade"] == "websocket"
    assert "yamux" in Attempt().feed(request(without=("sec-websocket-protocol",))).problem()["detail"]
    unauthenticated = Attempt().feed(request(without=("authorization",))).problem()
    assert unauthenticated["headers"]["WWW-Authenticate"] == 'Bearer realm="homeport"'


def test_a_token_longer_than_the_cap_is_refused() -> None:
    limits = HandshakeLimits(max_head=16_384)
    assert Attempt(limits=limits).feed(request(authorization="Bearer " + "a" * 4096)).handshake.opened is not None
    problem = Attempt(limits=limits).feed(request(authorization="Bearer " + "a" * 4097)).problem()
    assert problem["code"] == "missing_session_token"


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_scheme_is_case_insensitive(scheme: str) -> None:
    assert Attempt().feed(request(authorization=f"{scheme} abc")).asked[0].token.reveal() == "abc"


@pytest.mark.parametrize(
    ("refusal", "retry_after"),
    [
        (Refusal(status=401, code="session_token_expired", title="Expired", detail="expired 3 s ago"), None),
        (Refusal(status=403, code="revoked", title="Revoked"), None),
        (Refusal(status=409, code="replaced", title="Replaced"), None),
        (Refusal(status=429, code="rate_limited", title="Slow down", retry_after=1.2), "2"),
        (Refusal(status=503, code="over_capacity", title="Full", retry_after=0.0), "0"),
    ],
)
def test_what_admission_refuses(refusal: Refusal, retry_after: str | None) -> None:
    problem = Attempt(admit=lambda _: refusal).feed(request()).problem()
    assert problem["status"] == refusal.status
    assert problem["code"] == refusal.code
    assert problem["title"] == refusal.title
    assert problem["detail"] == (refusal.detail or refusal.title)
    assert problem["headers"].get("Retry-After") == retry_after


def test_an_admission_that_raises_is_an_internal_error_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    def admit(_: HandshakeRequest) -> Admission:
        raise RuntimeError("the database password is hunter2")

    problem = Attempt(admit=admit).feed(request()).problem()
    assert (problem["status"], problem["code"]) == (500, "internal_error")
    assert "hunter2" not in json.dumps({k: str(v) for k, v in problem.items()})
    assert "admitting a tunnel failed" in caplog.text


def respond(path: str) -> PlainAnswer | None:
    return PlainAnswer(status=200, body=b"ok\n") if path == "/healthz" else None


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_plain_get_is_answered(version: str) -> None:
    attempt = Attempt(respond=respond).feed(f"GET /healthz?verbose=1 HTTP/{version}\r\nHost: x\r\n\r\n".encode())
    assert attempt.handshake.finished
    response = attempt.answer()
    assert (response.status_code, bytes(response.body)) == (200, b"ok\n")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert Attempt(respond=respond).feed(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n").problem()["code"] == "not_found"


def test_head_has_the_length_and_no_body() -> None:
    attempt = Attempt(respond=respond).feed(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    output = attempt.handshake.take_output()
    assert b"Content-Length: 3\r\n" in output
    assert output.endswith(b"\r\n\r\n")


def test_an_answer_that_raises_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: str) -> PlainAnswer:
        raise RuntimeError("no")

    problem = Attempt(respond=broken).feed(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").problem()
    assert problem["code"] == "internal_error"
    assert "answering a plain request failed" in caplog.text


def test_the_time_for_the_head_is_over() -> None:
    attempt = Attempt().feed(request()[:-1])
    attempt.handshake.timed_out()
    problem = attempt.problem()
    assert (problem["status"], problem["code"]) == (408, "handshake_timeout")
    attempt.handshake.timed_out()
    assert attempt.handshake.take_output() == b""


def test_the_time_does_not_matter_once_it_is_open() -> None:
    attempt = Attempt().feed(request())
    attempt.handshake.take_output()
    attempt.handshake.timed_out()
    assert attempt.handshake.opened is not None
    assert not attempt.handshake.finished
    assert attempt.handshake.take_output() == b""


def test_a_peer_that_hangs_up_is_not_answered() -> None:
    attempt = Attempt().feed(request()[:30])
    attempt.handshake.receive_eof()
    assert attempt.handshake.finished
    assert attempt.handshake.take_output() == b""


def test_the_token_is_not_logged_by_the_library(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        Attempt().feed(request())
        Attempt().feed(request(without=("upgrade",)))
    assert "abc.def.ghi" not in caplog.text


@given(st.binary(max_size=400), st.integers(1, 100))
def test_no_bytes_raise_and_no_more_than_the_limit_is_kept(data: bytes, chunk: int) -> None:
    attempt = Attempt(limits=HandshakeLimits(max_head=200))
    for start in range(0, len(data), chunk):
        attempt.handshake.receive(data[start : start + chunk])
        assert attempt.handshake.buffered <= 200
    attempt.handshake.timed_out()
    assert attempt.handshake.finished


@given(st.data())
def test_requests_with_arbitrary_headers_never_raise(data: st.DataObject) -> None:
    text = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40)
    names = st.sampled_from(
        [
            "upgrade",
            "connection",
            "sec_websocket_key",
            "sec_websocket_version",
            "sec_websocket_protocol",
            "authorization",
        ]
    )
    changed = data.draw(st.dictionaries(names, text, max_size=4))
    attempt = Attempt().feed(request(**changed))
    assert attempt.handshake.finished is (attempt.handshake.opened is None)


class TestClosed:
    """Refusing whoever asks, without a look at what is asked."""

    REFUSAL = Refusal(status=429, code="rate_limited", title="Too many handshakes", retry_after=1.5)

    def attempt(self, closed: Refusal | None) -> tuple[Attempt, list[str]]:
        asked: list[str] = []
        attempt = Attempt(respond=lambda path: PlainAnswer(status=200, body=path.encode()))

        def ask() -> Refusal | None:
            asked.append("closed")
            return closed

        attempt.handshake = ServerHandshake(
            attempt._admit,
            closed=ask,
            respond=lambda path: PlainAnswer(status=200, body=path.encode()),
            limits=LIMITS,
            remote_address="192.0.2.7:4711",
        )
        return attempt, asked

    @pytest.mark.parametrize("chunk", [None, 1])
    def test_a_whole_request_is_refused_unread(self, chunk: int | None) -> None:
        attempt, asked = self.attempt(self.REFUSAL)
        attempt.feed(request(upgrade="nonsense"), chunk)
        assert attempt.handshake.finished
        response = attempt.answer()
        assert (response.status_code, response.headers["Retry-After"]) == (429, "2")
        assert attempt.asked == []
        assert asked == ["closed"]

    def test_nothing_is_said_before_the_request_is_whole(self) -> None:
        attempt, asked = self.attempt(self.REFUSAL)
        attempt.feed(request()[:-1])
        assert not attempt.handshake.finished
        assert asked == []

    def test_health_is_answered_all_the_same(self) -> None:
        attempt, asked = self.attempt(self.REFUSAL)
        attempt.feed(request(line="GET /healthz HTTP/1.1"))
        assert attempt.answer().status_code == 200
        assert asked == []

    def test_when_it_is_not_closed_the_request_is_read(self) -> None:
        attempt, asked = self.attempt(None)
        attempt.feed(request())
        assert attempt.handshake.opened is not None
        assert asked == ["closed"]
