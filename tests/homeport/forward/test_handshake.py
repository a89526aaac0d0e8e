"""The upgrade request and every kind of answer, whole, byte by byte, and with bytes left over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.secret import Secret
from homeport.errors import GatewayUnreachableError, UpgradeRefusedError
from homeport.forward.handshake import GatewayUrl, Target, UpgradeHandshake

OPENED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: homeport-tcp\r\n\r\n"
PROBLEM = b'{"code":"device_offline","title":"The device is offline","status":502,"detail":"demo is not connected"}'


def new_handshake(url: str = "http://127.0.0.1:3722") -> UpgradeHandshake:
    return UpgradeHandshake(GatewayUrl.parse(url), Target.parse("home/demo/ssh"), Secret("hp_token"))


def test_the_request() -> None:
    assert new_handshake().request() == (
        b"GET /t/home/demo/ssh HTTP/1.1\r\n"
        b"Host: 127.0.0.1:3722\r\n"
        b"Connection: Upgrade\r\n"
        b"Upgrade: homeport-tcp\r\n"
        b"Authorization: Bearer hp_token\r\n"
        b"Accept: application/problem+json\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("after", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_opened(before: bytes, after: bytes) -> None:
    assert new_handshake().receive_data(before + OPENED + after) == after


def test_opened_byte_by_byte() -> None:
    handshake = new_handshake()
    answers = [handshake.receive_data(bytes([byte])) for byte in OPENED]
    assert answers == [None] * (len(OPENED) - 1) + [b""]


def answer(status: bytes, body: bytes, *fields: bytes) -> bytes:
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join([*head, b"", body])


def refusal_of(pieces: list[bytes]) -> UpgradeRefusedError:
    handshake = new_handshake()
    for piece in pieces[:-1]:
        assert handshake.receive_data(piece) is None
    with pytest.raises(UpgradeRefusedError) as refused:
        handshake.receive_data(pieces[-1])
    return refused.value


@pytest.mark.parametrize("follows", [b"", b"garbage"])
def test_refused_with_a_problem(follows: bytes) -> None:
    whole = answer(b"502 Bad Gateway", PROBLEM, b"Content-Type: application/problem+json")
    for pieces in ([whole + follows], [bytes([byte]) for byte in whole]):
        refusal = refusal_of(pieces)
        assert (refusal.http_status, refusal.reason) == (502, "device_offline")
        assert str(refusal) == "demo is not connected"
        assert refusal.problem()["code"] == "device_offline"
        assert refusal.problem()["status"] == 502


@pytest.mark.parametrize(
    ("status", "body", "detail"),
    [
        (b"502 Bad Gateway", b"", "502 Bad Gateway"),
        (b"502 Bad Gateway", b"upstream\n timed out", "502 Bad Gateway: upstream timed out"),
        (b"502 Bad Gateway", b"<html>nginx</html>", "502 Bad Gateway"),
        (b"418 Teapot", b'["not an object"]', '418 I\'m a Teapot: ["not an object"]'),
        (b"599 Odd", b"\x00\xff", "599 an unknown status"),
        (b"503 Service Unavailable", b"x" * 2000, "503 Service Unavailable: " + "x" * 500),
    ],
)
def test_refused_by_something_in_between(status: bytes, body: bytes, detail: str) -> None:
    refusal = refusal_of([answer(status, body)])
    assert str(refusal) == detail
    assert refusal.reason == ""
    assert refusal.problem()["code"] == "forward_refused"


def test_a_web_server_that_is_no_gateway() -> None:
    assert "is it the URL of the gateway?" in str(refusal_of([answer(b"200 OK", b"hi")]))


def test_upgrade_required_is_a_refusal() -> None:
    refusal = refusal_of([answer(b"426 Upgrade Required", b"", b"Connection: Upgrade", b"Upgrade: websocket")])
    assert refusal.http_status == 426


def test_something_that_is_not_http() -> None:
    with pytest.raises(GatewayUnreachableError, match="does not answer in HTTP"):
        new_handshake().receive_data(b"SSH-2.0-OpenSSH_9.2\r\n")


def test_an_answer_without_end() -> None:
    handshake = new_handshake()
    handshake.receive_data(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 1000000\r\n\r\n")
    with pytest.raises(GatewayUnreachableError, match="more than 65536 bytes"):
        handshake.receive_data(b"x" * 70_000)


def test_the_end_without_an_answer() -> None:
    assert "without an answer" in str(new_handshake().receive_eof())


def test_the_end_of_an_answer_without_length() -> None:
    handshake = new_handshake()
    assert handshake.receive_data(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n" + PROBLEM) is None
    assert str(handshake.receive_eof()) == "demo is not connected"


@given(st.lists(st.binary(max_size=100)))
def test_whatever_comes_only_our_errors_are_raised(pieces: list[bytes]) -> None:
    handshake = new_handshake()
    try:
        for piece in pieces:
            handshake.receive_data(piece)
    except (GatewayUnreachableError, UpgradeRefusedError):
        pass


@pytest.mark.parametrize("text", ["home/demo", "home/demo/ssh/x", "", "home//ssh", "Home/demo/ssh", "home/de--mo/ssh"])
def test_a_target_that_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        Target.parse(text)


@pytest.mark.parametrize(
    ("text", "authority", "request_line"),
    [
        ("http://127.0.0.1:3722", "127.0.0.1:3722", b"GET /t/home/demo/ssh "),
        ("https://gw.example.com/", "gw.example.com", b"GET /t/home/demo/ssh "),
        ("https://gw.example.com:8443/edge/", "gw.example.com:8443", b"GET /edge/t/home/demo/ssh "),
        ("http://[::1]", "[::1]", b"GET /t/home/demo/ssh "),
    ],
)
def test_gateway_urls(text: str, authority: str, request_line: bytes) -> None:
    assert GatewayUrl.parse(text).authority == authority
    request = new_handshake(text).request()
    assert request.startswith(request_line)
    assert b"\r\nHost: " + authority.encode() + b"\r\n" in request


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:3722",
        "ftp://x",
        "http://",
        "http://u:p@x",
        "http://x/?q",
        "http://x:99999",
        "http://x/a b",
        "http://ä",
    ],
)
def test_a_gateway_url_that_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        GatewayUrl.parse(text)
