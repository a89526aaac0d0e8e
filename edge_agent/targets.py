"""Local services, as things that can be connected to.

A target is made once, from the list that the user wrote; the relay's request chooses one by name and carries no
address, so nothing that arrives on the tunnel can become part of a connect. Where an address needs no name resolution
(an IP literal, a Unix socket, `localhost`) no thread and no DNS is involved.

Every connect gives back a plain non-blocking socket: `edge_agent.splice` reads and writes it without a stream object in
between.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import trio

from common.loopback import is_loopback, send_without_pacing
from edge_agent.errors import (
    StreamLimitError,
    TargetError,
    TargetRefusedError,
    TargetTimeoutError,
    TargetUnreachableError,
)

__all__ = [
    "QUEUE_AT_HOME",
    "AddressTarget",
    "LocalhostTarget",
    "NamedTarget",
    "Target",
    "connect",
    "connect_within",
    "meets_itself",
    "no_answer",
    "tcp_target",
    "unix_target",
]

QUEUE_AT_HOME: Final = 256 * 1024
"""Bytes of the receive buffer of a service on this machine (the kernel doubles it for its own needs). By itself it
would grow to megabytes, to bridge a path that is not there; what it holds then keeps the service busy with a bulk
transfer ahead of need, and small requests wait for the core. As much as `edge_agent.splice` reads at once."""

_FULL_BACKLOG_PAUSE = 0.01
"""Seconds between attempts while a Unix socket's backlog is full: there is nothing to wait on (connect(2), EAGAIN)."""

_REFUSED = frozenset({errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET})
"""Nobody listens; for a Unix socket, the file may not be there yet."""

_LIMITED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""The agent ran out of something; EADDRNOTAVAIL is every ephemeral port taken."""


class Target(Protocol):
    """Something local that listens."""

    async def connect(self) -> socket.socket:
        """A connected, non-blocking socket, that the caller closes.

        Raises:
            OSError: as the system says; `connect` below maps it.
        """
        ...


@dataclass(frozen=True, slots=True)
class AddressTarget:
    """One address: an IP literal with a port, or the path of a Unix socket."""

    family: socket.AddressFamily
    address: Any
    """As `socket.connect` takes it for that family."""

    async def connect(self) -> socket.socket:
        return await _connect(self.family, self.address)

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return str(self.address)
        host, port = self.address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(slots=True)
class LocalhostTarget:
    """`localhost`: both loopback addresses (RFC 6761 section 6.3), tried in turn.

    A refusal on loopback is immediate, so the race of RFC 8305 would win nothing here; many development servers listen
    on one of the two families only. The address that answered last is tried first.
    """

    port: int
    _order: list[AddressTarget] = field(init=False)

    def __post_init__(self) -> None:
        self._order = [
            AddressTarget(socket.AF_INET, ("127.0.0.1", self.port)),
            AddressTarget(socket.AF_INET6, ("::1", self.port)),
        ]

    async def connect(self) -> socket.socket:
        first, second = self._order
        try:
            return await first.connect()
        except OSError as refusal:
            try:
                sock = await second.connect()
            except OSError:
                # The first one's reason is the one to tell: the other family is often just not there.
                raise refusal from None
        self._order = [second, first]
        return sock

    def __str__(self) -> str:
        return f"localhost:{self.port}"


@dataclass(frozen=True, slots=True)
class NamedTarget:
    """A host name: resolved at each connect, since addresses of containers move; tried as RFC 8305 says."""

    host: str
    port: int

    async def connect(self) -> socket.socket:
        stream = await trio.open_tcp_stream(self.host, self.port)
        # trio's socket gives its descriptor up, so that there is one owner and no trio wrapper on the data path.
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        return sock

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def tcp_target(host: str, port: int) -> Target:
    """The target for a host, which is a name or an IP literal without brackets, and a port."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return LocalhostTarget(port) if host.lower() == "localhost" else NamedTarget(host, port)
    if isinstance(literal, ipaddress.IPv6Address) and literal.scope_id is not None:
        return NamedTarget(host, port)  # the resolver turns the zone into an interface number
    family = socket.AF_INET if literal.version == 4 else socket.AF_INET6
    return AddressTarget(family, (str(literal), port))


def unix_target(path: str) -> Target:
    """The target for a Unix socket."""
    return AddressTarget(socket.AF_UNIX, path)


async def connect(target: Target) -> socket.socket:
    """Connect to `target`; the caller limits the time.

    Raises:
        TargetError: with the code that the relay is told, and a detail that names the target.
    """
    try:
        return await target.connect()
    except OSError as exc:
        raise _as_target_error(target, exc) from exc


async def connect_within(target: Target, timeout: float) -> socket.socket:
    """Connect to `target` within `timeout` seconds.

    Raises:
        TargetError: as `connect`, and `TargetTimeoutError`.
    """
    with trio.move_on_after(timeout):
        return await connect(target)
    raise no_answer(target, timeout)


def no_answer(target: Target, timeout: float) -> TargetTimeoutError:
    """What is said when `timeout` seconds were not enough."""
    return TargetTimeoutError(f"{target} did not accept the connection within {timeout:g} s")


def _as_target_error(target: Target, exc: OSError) -> TargetError:
    # A race between addresses (trio.open_tcp_stream) reports all failures as the cause; the first tells the most.
    cause = exc.__cause__
    if isinstance(cause, BaseExceptionGroup):
        first = next((e for e in cause.exceptions if isinstance(e, OSError)), exc)
    else:
        first = cause if isinstance(cause, OSError) else exc
    if first.errno in _REFUSED:
        return TargetRefusedError(f"nothing listens on {target} ({_why(first)})")
    if first.errno in _LIMITED:
        return StreamLimitError(f"cannot connect to {target}: {_why(first)}")
    if first.errno == errno.ETIMEDOUT:
        return TargetTimeoutError(f"{target} did not accept the connection: {_why(first)}")
    return TargetUnreachableError(f"cannot connect to {target}: {_why(first)}")


def _why(exc: OSError) -> str:
    # Resolver errors have negative numbers and a text of their own (gai_strerror(3)).
    return os.strerror(exc.errno) if exc.errno is not None and exc.errno > 0 else exc.strerror or str(exc)


async def _connect(family: socket.AddressFamily, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if family != socket.AF_UNIX:
            # Requests are written whole and answered whole: Nagle's algorithm would only wait (RFC 9293 section 3.7.4).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            send_without_pacing(sock, address)
            if is_loopback(address):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_AT_HOME)
        status = sock.connect_ex(address)
        if status == errno.EINPROGRESS:
            # On loopback the handshake is over when `connect` returns, and asking again tells how it went. Waiting for
            # it would cost more than all the rest of a short connection.
            status = sock.connect_ex(address)
        while status == errno.EAGAIN:
            await trio.sleep(_FULL_BACKLOG_PAUSE)
            status = sock.connect_ex(address)
        if status == errno.EALREADY:
            await trio.lowlevel.wait_writable(sock)
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status == 0 and family != socket.AF_UNIX and meets_itself(sock):
            status = errno.ECONNREFUSED
        if status:
            raise OSError(status, os.strerror(status))
    except BaseException:
        sock.close()
        raise
    return sock


def meets_itself(sock: socket.socket) -> bool:
    """Whether both ends of the connection are `sock`.

    With nobody listening on a port of the ephemeral range, a connect whose own port the kernel picked to be that very
    one succeeds (simultaneous open, RFC 9293 section 3.5), and a stopped service would look like an echo.
    """
    return bool(sock.getsockname() == sock.getpeername())
