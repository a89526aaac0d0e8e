"""Which connections stay on the machine, and what is set on them."""

from __future__ import annotations

import socket

import pytest

from common.loopback import is_loopback, send_without_pacing


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
