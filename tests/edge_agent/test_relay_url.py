"""Which URLs may be dialled."""

from __future__ import annotations

import pytest

from edge_agent.errors import RelayUrlError
from edge_agent.relay_url import RelayUrl, is_loopback


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wss://relay.example/tunnel", "wss://relay.example:443/tunnel"),
        ("wss://relay.example", "wss://relay.example:443/tunnel"),
        ("https://relay.example/", "wss://relay.example:443/tunnel"),
        ("wss://relay.example:8443/at/home", "wss://relay.example:8443/at/home"),
        ("WSS://Relay.Example", "wss://relay.example:443/tunnel"),
        ("ws://127.0.0.1:3800/tunnel", "ws://127.0.0.1:3800/tunnel"),
        ("http://localhost:3800", "ws://localhost:3800/tunnel"),
        ("ws://[::1]:3800", "ws://[::1]:3800/tunnel"),
    ],
)
def test_a_relay_url_is_read(text: str, shown: str) -> None:
    url = RelayUrl.parse(text)
    assert str(url) == shown
    assert RelayUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("relay.example", "looks like"),
        ("ftp://relay.example", "looks like"),
        ("wss://", "looks like"),
        ("wss://relay.example:port", "cannot be read"),
        ("wss://relay.example:0", "port 0"),
        ("wss://" + "a" * 64 + ".example", "no host name"),
        ("wss://x..example", "no host name"),
        ("wss://relay.example/tunnel?token=hp_secret", "no query"),
        ("wss://relay.example/tunnel?", "no query"),
        ("wss://relay.example/tunnel#x", "no query and no fragment"),
        ("wss://device:hp_secret@relay.example/tunnel", "no user name"),
        ("wss://relay.example/tün", "printable ASCII"),
        ("ws://relay.example/tunnel", "unencrypted"),
        ("ws://10.0.0.1:3800/tunnel", "unencrypted"),
        ("ws://127.0.0.1.example/tunnel", "unencrypted"),
    ],
)
def test_a_relay_url_that_cannot_be_used_says_why_and_shows_no_secret(text: str, says: str) -> None:
    with pytest.raises(RelayUrlError, match=says) as caught:
        RelayUrl.parse(text)
    assert "hp_secret" not in str(caught.value)


def test_the_user_may_insist_on_plaintext() -> None:
    assert not RelayUrl.parse("ws://10.0.0.1:3800", allow_plaintext=True).secure


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_is_known_by_its_spelling(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["relay.example", "10.0.0.1", "localhost.example", "0.0.0.0", "::", "127.0.0.1.nip.io"]
)
def test_nothing_else_is_loopback(host: str) -> None:
    assert not is_loopback(host)
