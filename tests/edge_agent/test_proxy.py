"""Which proxy the environment asks for, and what a proxy may answer to CONNECT."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.secret import Secret
from edge_agent.errors import ProxyError
from edge_agent.proxy import ConnectRequest, Proxy, proxy_for
from edge_agent.relay_url import RelayUrl

SECURE = RelayUrl.parse("wss://relay.example/tunnel")
PLAIN = RelayUrl.parse("ws://relay.example/tunnel", allow_plaintext=True)
PROXY = Proxy("proxy.example", 3128)


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, PROXY),
        ({"https_proxy": "http://proxy.example:3128", "HTTPS_PROXY": "http://other:1"}, PROXY),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, None),
        ({"ALL_PROXY": "http://proxy.example:3128"}, PROXY),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "ALL_PROXY": "http://other:1"}, PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ({"HTTPS_PROXY": "http://proxy.example"}, Proxy("proxy.example", 80)),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:3128"}, Proxy("2001:db8::1", 3128)),
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
        ("wss://relay.example", "", False),
        ("wss://relay.example", ", ,", False),
        ("wss://relay.example", ".", False),
        ("wss://10.1.2.3", "10.0.0.0/8", True),
        ("wss://10.1.2.3", "10.1.2.3", True),
        ("wss://10.1.2.3", "10.1.2.3:443", True),
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
    assert proxy_for(RelayUrl.parse(url), environ) == (None if direct else PROXY)


def test_loopback_is_never_proxied() -> None:
    environ = {"all_proxy": "http://proxy.example:3128"}
    assert proxy_for(RelayUrl.parse("ws://127.0.0.1:3800"), environ) is None
    assert proxy_for(RelayUrl.parse("ws://localhost:3800"), environ) is None


@pytest.mark.parametrize(
    "text",
    ["socks5://u:hunter2@proxy:1080", "https://u:hunter2@proxy", "http://u:hunter2@", "http://u:hunter2@proxy:port"],
)
def test_a_proxy_that_cannot_be_used_is_an_error_without_its_password(text: str) -> None:
    with pytest.raises(ProxyError) as caught:
        proxy_for(SECURE, {"HTTPS_PROXY": text})
    assert "HTTPS_PROXY" in caught.value.detail
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_credentials_come_from_the_url_and_are_kept_secret() -> None:
    proxy = proxy_for(SECURE, {"HTTPS_PROXY": "http://me%40home:hunter%3A2@proxy.example:3128"})
    assert proxy is not None
    assert proxy.authorization is not None
    scheme, _, value = proxy.authorization.reveal().partition(" ")
    assert (scheme, base64.b64decode(value)) == ("Basic", b"me@home:hunter:2")
    assert str(proxy) == "proxy.example:3128"
    assert "hunter" not in repr(proxy)
    assert value not in repr(proxy)


def test_connect_asks_for_the_relay_and_nothing_more() -> None:
    assert ConnectRequest(SECURE, PROXY).data_to_send() == (
        b"CONNECT relay.example:443 HTTP/1.1\r\nHost: relay.example:443\r\nUser-Agent: homeport-agent\r\n\r\n"
    )
    request = ConnectRequest(RelayUrl.parse("wss://[2001:db8::1]"), Proxy("p", 1, Secret("Basic eA==")))
    assert request.data_to_send() == (
        b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nUser-Agent: homeport-agent\r\n"
        b"Proxy-Authorization: Basic eA==\r\n\r\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 204 Fine\n\n",
    ],
)
def test_a_2xx_opens_the_way_whole_or_byte_by_byte(answer: bytes) -> None:
    assert ConnectRequest(SECURE, PROXY).receive_data(answer)
    request = ConnectRequest(SECURE, PROXY)
    assert [request.receive_data(answer[i : i + 1]) for i in range(len(answer))] == [False] * (len(answer) - 1) + [True]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nno!!!", "403 Forbidden"),
        (b"HTTP/1.1 502 \x1b[31m\xff\r\n\r\n", r"502 \[31m"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants credentials"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "101"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "bytes after its answer"),
        (b"HTTP/2 200\r\n\r\n", "not answer as an HTTP proxy"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "not answer as an HTTP proxy"),
        (b"HTTP/1.1 \xb2\xb3\xb9 OK\r\n\r\n", "not answer as an HTTP proxy"),
        (b"\r\n\r\n", "not answer as an HTTP proxy"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not answer as an HTTP proxy"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "not answer as an HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000, "more than 16384"),
    ],
)
def test_any_other_answer_says_what_it_was(answer: bytes, says: str) -> None:
    with pytest.raises(ProxyError, match=says):
        ConnectRequest(SECURE, PROXY).receive_data(answer)


def test_refused_credentials_are_told_from_missing_ones() -> None:
    request = ConnectRequest(SECURE, Proxy("p", 1, Secret("Basic aHVudGVyMg==")))
    with pytest.raises(ProxyError, match="refused the credentials") as caught:
        request.receive_data(b"HTTP/1.1 407 x\r\n\r\n")
    assert "aHVu" not in caught.value.detail


def test_hanging_up_early_is_said() -> None:
    with pytest.raises(ProxyError, match="without an answer"):
        ConnectRequest(SECURE, PROXY).receive_eof()


@given(st.binary(max_size=64), st.integers(1, 8))
def test_no_bytes_do_anything_but_open_the_way_or_fail(answer: bytes, step: int) -> None:
    request = ConnectRequest(SECURE, PROXY)
    for start in range(0, len(answer), step):
        try:
            opened = request.receive_data(answer[start : start + step])
        except ProxyError as exc:
            failure: ProxyError = exc
            break
        if opened:
            assert answer.startswith(b"HTTP/1.")
            return
    else:
        return  # not complete yet
    assert failure.detail.isascii()
