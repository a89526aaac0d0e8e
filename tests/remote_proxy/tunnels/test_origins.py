from __future__ import annotations

import pytest

from common.secret import Secret
from common.tunnel.handshake import HandshakeRequest
from common.tunnel.interfaces import Subprotocol
from remote_proxy.tunnels.origins import Origins, read_networks


def request(peer: str, forwarded: str | None = None) -> HandshakeRequest:
    return HandshakeRequest(
        token=Secret("x"),
        subprotocol=Subprotocol.YAMUX,
        headers={} if forwarded is None else {"x-forwarded-for": forwarded},
        remote_address=peer,
    )


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1:4000", None, "192.0.2.1"),
        ("[2001:db8::1]:4000", None, "2001:db8::1"),
        ("[::ffff:192.0.2.1]:4000", None, "192.0.2.1"),
        # Who is no proxy of ours says what it likes.
        ("192.0.2.1:4000", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1:4000", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1:4000", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1:4000", "1.1.1.1, 198.51.100.7, 127.0.0.1", "198.51.100.7"),
        ("127.0.0.1:4000", " 2001:db8::7 ", "2001:db8::7"),
        # A proxy that does not say, or says nonsense.
        ("127.0.0.1:4000", None, None),
        ("127.0.0.1:4000", "", None),
        ("127.0.0.1:4000", "unknown", None),
        ("127.0.0.1:4000", "198.51.100.7, unknown", None),
        ("127.0.0.1:4000", "127.0.0.1", None),
        # A socket without an address.
        ("", None, None),
    ],
)
def test_whose_address_it_is(peer: str, forwarded: str | None, address: str | None) -> None:
    assert Origins(["127.0.0.1", "10.0.0.0/8"]).address(request(peer, forwarded)) == address


def test_nobody_is_trusted_unasked() -> None:
    assert Origins([]).address(request("127.0.0.1:1", "192.0.2.1")) == "127.0.0.1"


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.1/8", ""])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"host bits|does not appear"):
        read_networks([text])
