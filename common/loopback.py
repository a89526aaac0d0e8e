"""Connections that do not leave the machine: a service beside its agent, a gateway beside its relay."""

from __future__ import annotations

import contextlib
import socket
from typing import Final, Protocol

__all__ = ["CONGESTION_CONTROL", "is_loopback", "send_without_pacing"]

CONGESTION_CONTROL: Final = b"reno"
"""In every Linux kernel, and open to every user (tcp(7), TCP_CONGESTION)."""


class Socket(Protocol):
    """What is asked of a socket; uvloop's transports give one that is no `socket.socket`."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> object:
        """As `socket.setsockopt`."""


def is_loopback(address: object) -> bool:
    """Whether an address, as `socket.getpeername` gives it, is one of this machine's loopback interface."""
    match address:
        case (str(host), int(), *_):
            return host.startswith(("127.", "::ffff:127.")) or host == "::1"
        case _:
            return False


def send_without_pacing(sock: Socket, peer: object) -> None:
    """Let a TCP connection to the loopback interface send as fast as its peer reads; others stay as they are.

    A congestion control that paces, such as BBR, which many hosts have as their default, sends a bulk transfer by the
    clock: a timer and a wake-up for every few packets, on an interface that has nothing to congest. It cost a
    tenth to a fifth of the CPU a GiB of every process on the way.

    Args:
        sock: its socket.
        peer: the address of its other end.
    """
    if is_loopback(peer):
        with contextlib.suppress(OSError):  # it is for speed alone
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)
