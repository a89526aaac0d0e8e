"""A bare socket through the gateway: `Upgrade: homeport-tcp`, and then the service's own bytes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.stack.installation import Installation

__all__ = ["open_tcp", "receive_all", "receive_exactly"]


@contextmanager
def open_tcp(installation: Installation, device: str, service: str) -> Iterator[socket.socket]:
    """A connection to a TCP service of a device.

    Raises:
        RuntimeError: the gateway did not switch protocols; the message is its answer.
    """
    gateway = urlsplit(installation.gateway)
    request = (
        f"GET /t/{installation.team}/{device}/{service} HTTP/1.1\r\nHost: {gateway.netloc}\r\n"
        f"Authorization: Bearer {installation.token}\r\nConnection: Upgrade\r\nUpgrade: homeport-tcp\r\n\r\n"
    )
    with socket.create_connection((gateway.hostname, gateway.port), timeout=60) as connection:
        connection.sendall(request.encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)  # one at a time: what follows the head is the service's
            if not byte:
                break
            head += byte
        if not head.startswith(b"HTTP/1.1 101 "):
            raise RuntimeError(f"the gateway did not switch: {head.decode(errors='replace')}")
        yield connection


def receive_all(connection: socket.socket) -> bytes:
    """What comes until the peer's end."""
    parts = []
    while data := connection.recv(256 * 1024):
        parts.append(data)
    return b"".join(parts)


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """The next `size` bytes.

    Raises:
        EOFError: the peer ended before.
    """
    parts = []
    while size:
        data = connection.recv(size)
        if not data:
            raise EOFError(f"{size} bytes are missing")
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
