"""Which proxy the environment asks for, and what a proxy may answer to CONNECT."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.secret import Secret
from common.tunnel.client_handshake import parse_tunnel_url
from common.tunnel.errors import HandshakeError, HandshakeFailedError, ProxyRefusedError
from common.tunnel.proxy import ConnectHandshake, Proxy, proxy_for

SECURE = parse_tunnel_url("wss://relay.example/tunnel")
PLAIN = parse_tunnel_url("ws://relay.example/tunnel")
PROXY = Proxy(host="proxy.example", port=3128, credential=None)


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": " "}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, PROXY),
        ({"https_proxy": "http://proxy.example:3128", "HTTPS_PROXY": "http://other:1"}, PROXY),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, None),
        ({"ALL_PROXY": "http://proxy.example:3128"}, PROXY),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "ALL_PROXY": "http://other:1"}, PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ({"HTTPS_PROXY": "http://proxy.example"}, Proxy(host="proxy.example", port=80, credential=None)),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:3128"}, Proxy(host="2001:db8::1", port=3128, credential=None)),
    ],
)
def test_the_environment_chooses_the_proxy_of_a_secure_relay(environ: dict[str, str], proxy: Proxy | None) -> None:
    assert proxy_for(SECURE, environ) == proxy


def test_a_plain_relay_has_the_plain_variable() -> None:
    assert proxy_for(PLAIN, {"HTTPS_PROXY": "http://other:1"}) is None
    assert proxy_for(PLAIN, {"http_proxy": "http://proxy.example:3128"}) == PROXY


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("wss://relay.example", "relay.example", True),
        ("wss://relay.example", "RELAY.example", True),
        ("wss://relay.example", ".example", True),
        ("wss://relay.example", "*.example", True),
        ("wss://relay.example", "example", True),
        ("wss://relay.example", "*", True),
        ("wss://relay.example", "other.net, relay.example", True),
        ("wss://relay.example", "other.net relay.example", True),
        ("wss://relay.example", "relay.example:443", True),
        ("wss://relay.example", "relay.example:8443", False),
        ("wss://relay.example", "lay.example", False),
        ("wss://relay.example", "relay.example.net", False),
        ("wss://relay.example", "10.0.0.0/8", False),
        ("wss://relay.example", "", False),
        ("wss://relay.example", ", ,", False),
        ("wss://relay.example", ".", False),
        ("wss://10.1.2.3", "10.0.0.0/8", True),
        ("wss://10.1.2.3", "10.1.2.3", True),
        ("wss://10.1.2.3", "10.1.2.3:443", True),
        ("wss://10.1.2.3", "10.1.2.3:80", False),
        ("wss://10.1.2.3", "11.0.0.0/8", False),
        ("wss://10.1.2.3", "2.3", False),
        ("wss://[2001:db8::1]", "2001:db8::/32", True),
        ("wss://[2001:db8::1]", "[2001:db8::1]", True),
        ("wss://[2001:db8::1]", "[2001:db8::1]:443", True),
        ("wss://[2001:db8::1]", "2001:db9::/32", False),
    ],
)
def test_no_proxy_names_the_exceptions(url: str, no_proxy: str, direct: bool) -> None:
    environ = {"https_proxy": "http://proxy.example:3128", "no_proxy": no_proxy}
    assert proxy_for(parse_tunnel_url(url), environ) == (None if direct else PROXY)


@pytest.mark.parametrize("host", ["127.0.0.1:3800", "localhost:3800", "[::1]", "relay.localhost"])
def test_loopback_is_never_proxied(host: str) -> None:
    assert proxy_for(parse_tunnel_url(f"ws://{host}"), {"all_proxy": "http://proxy.example:3128"}) is None


@pytest.mark.parametrize(
    "text",
    ["socks5://u:hunter2@proxy:1080", "https://u:hunter2@proxy", "http://u:hunter2@", "http://u:hunter2@proxy:port"],
)
def test_a_proxy_that_cannot_be_used_is_an_error_without_its_password(text: str) -> None:
    # To dial past it would be worse: a network that has a proxy mostly drops what goes around it.
    with pytest.raises(HandshakeFailedError, match="HTTPS_PROXY") as caught:
        proxy_for(SECURE, {"HTTPS_PROXY": text})
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_credentials_come_from_the_url_and_are_kept_secret() -> None:
    proxy = proxy_for(SECURE, {"HTTPS_PROXY": "http://me%40home:hunter%3A2@proxy.example:3128"})
    assert proxy is not None
    assert proxy.credential is not None
    assert "hunter" not in repr(proxy)
    head = ConnectHandshake(proxy, SECURE).request.decode()
    value = head.partition("Proxy-Authorization: Basic ")[2].partition("\r\n")[0]
    assert base64.b64decode(value) == b"me@home:hunter:2"


def test_connect_asks_for_the_relay_and_nothing_more() -> None:
    request = ConnectHandshake(PROXY, SECURE).request
    assert request == b"CONNECT relay.example:443 HTTP/1.1\r\nHost: relay.example:443\r\n\r\n"
    address = parse_tunnel_url("wss://[2001:db8::1]")
    assert b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n" in ConnectHandshake(PROXY, address).request


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 204 Fine\r\n\r\n",
    ],
)
def test_a_2xx_opens_the_way_whole_or_byte_by_byte(answer: bytes) -> None:
    assert ConnectHandshake(PROXY, SECURE).receive(answer + b"rest") == b"rest"
    connect = ConnectHandshake(PROXY, SECURE)
    results = [connect.receive(answer[i : i + 1]) for i in range(len(answer))]
    assert results == [None] * (len(answer) - 1) + [b""]


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nno!!!", 403, "403 Forbidden"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", 407, "credentials"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", 101, "101"),
    ],
)
def test_a_refusal_says_what_it_was(answer: bytes, status: int, says: str) -> None:
    with pytest.raises(ProxyRefusedError, match=says) as caught:
        ConnectHandshake(PROXY, SECURE).receive(answer)
    assert caught.value.http_status == status


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 \xb2\xb3\xb9 OK\r\n\r\n",
        b"HTTP/1.1 502 \x1b[31m\r\n\r\n",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000,
    ],
)
def test_what_is_no_proxy_is_found_out(answer: bytes) -> None:
    with pytest.raises(HandshakeFailedError, match="proxy"):
        ConnectHandshake(PROXY, SECURE).receive(answer)


def test_a_refusal_does_not_show_the_credentials() -> None:
    proxy = Proxy(host="p", port=1, credential=Secret("me:hunter2"))
    with pytest.raises(ProxyRefusedError) as caught:
        ConnectHandshake(proxy, SECURE).receive(b"HTTP/1.1 407 x\r\n\r\n")
    assert "hunter2" not in caught.value.detail


def test_hanging_up_early_is_said() -> None:
    assert isinstance(ConnectHandshake(PROXY, SECURE).receive_eof(), HandshakeFailedError)


@given(st.binary(max_size=64), st.integers(1, 8))
def test_no_bytes_do_anything_but_open_the_way_or_fail(answer: bytes, step: int) -> None:
    connect = ConnectHandshake(PROXY, SECURE)
    rest: bytes | None = None
    failure: HandshakeError | None = None
    for start in range(0, len(answer), step):
        try:
            rest = connect.receive(answer[start : start + step])
        except HandshakeError as exc:
            failure = exc
            break
        if rest is not None:
            break
    assert failure is None or failure.detail.isascii()
    assert rest is None or answer.startswith(b"HTTP/1.")
