"""Which connections stay on the machine, and what is set on them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from common.loopback import CONGESTION_CONTROL, is_loopback, send_without_pacing
from common.tunnel.on_asyncio.connection import prepare_socket
from common.tunnel.on_trio.transport import SocketTransport


@pytest.mark.parametrize(
    "address",
    [("127.0.0.1", 80), ("127.1.2.3", 80), ("::1", 80, 0, 0), ("::ffff:127.0.0.1", 80, 0, 0)],
)
def test_loopback_addresses(address: object) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address",
    [("10.0.0.127", 80), ("128.0.0.1", 80), ("::", 80, 0, 0), ("fe80::1", 80, 0, 2), "/run/app.sock", "", None],
)
def test_other_addresses(address: object) -> None:
    assert not is_loopback(address)


def congestion_control(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def test_only_a_connection_to_loopback_is_sent_without_pacing() -> None:
    with socket.socket() as near, socket.socket() as far:
        usual = congestion_control(far)
        send_without_pacing(near, ("127.0.0.1", 80))
        send_without_pacing(far, ("192.0.2.1", 80))
        assert congestion_control(near) == b"reno"
        assert congestion_control(far) == usual


def test_a_socket_that_is_gone_is_left_alone() -> None:
    sock = socket.socket()
    sock.close()
    send_without_pacing(sock, ("127.0.0.1", 80))


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        yield sock


def test_an_agents_tunnel_over_loopback_is_not_paced(connection: socket.socket) -> None:
    SocketTransport(connection)
    assert congestion_control(connection) == CONGESTION_CONTROL


class Accepted(asyncio.BaseTransport):
    """What a relay's transport says of its connection."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock, "peername": sock.getpeername()})


def test_a_relays_tunnel_over_loopback_is_not_paced(connection: socket.socket) -> None:
    prepare_socket(Accepted(connection))
    assert congestion_control(connection) == CONGESTION_CONTROL
