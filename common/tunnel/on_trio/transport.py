"""What the trio shell needs of a connection, and the connections there are.

The interface is readiness: calls that do what can be done now, and waiting for the moment when more can be. A socket is
read and written without a stream between (`trio.SocketStream` costs five times the CPU), TLS is an `ssl.SSLObject`
over memory, and any trio stream will do for a simulation.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from common.loopback import send_without_pacing
from common.tunnel.stream import Buffer

__all__ = ["SocketTransport", "StreamTransport", "Transport", "receive", "send_all"]

NOTSENT_LOWAT: Final = 128 * 1024
"""Bytes not yet sent above which the kernel takes no more (tcp(7), TCP_NOTSENT_LOWAT): a small answer waits behind this
much of a bulk transfer, instead of behind a whole send buffer of megabytes."""

LEAST_READ: Final = 16 * 1024
MOST_READ: Final = 256 * 1024
"""Bytes asked of one `recv`. It allocates what it is asked for, so it is asked for little until it fills it."""

MOST_BUFFERS: Final = 64
"""Buffers given to one `sendmsg`; the kernel takes 1024 (IOV_MAX)."""


class Transport(Protocol):
    """A connection. Calls without `wait` never wait; all raise `OSError` once the connection is broken or closed."""

    @property
    def unsent(self) -> int:
        """Bytes that `send_nowait` took and the connection has not: `send_nowait` with nothing tries again."""
        ...

    def receive_nowait(self) -> bytes | None:
        """What has arrived, as bytes of their own; b"" at the end; None if there is nothing for now."""
        ...

    async def wait_readable(self) -> None:
        """Wait until `receive_nowait` may have something."""
        ...

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        """Take as much as the connection does; returns how many bytes of the buffers, in order."""
        ...

    async def wait_writable(self) -> None:
        """Wait until `send_nowait` may take something."""
        ...

    async def aclose(self) -> None:
        """Close at once; what is unsent is lost, and tasks that wait get an error. Idempotent. Never blocks, and may be
        called in a cancelled scope.
        """
        ...


class SocketTransport:
    """A connected TCP or Unix socket.

    Args:
        sock: a socket of the standard library, made non-blocking here; closed by `close`.
    """

    __slots__ = ("_read_size", "_short", "_sock")

    unsent = 0

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # All are for speed alone; a kernel without one of them carries the tunnel as well.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
                send_without_pacing(sock, sock.getpeername())
        self._sock = sock
        self._read_size = LEAST_READ
        self._short = False

    def receive_nowait(self) -> bytes | None:
        if self._short:
            # The last read took all there was: wait, instead of being told so by the kernel.
            self._short = False
            return None
        size = self._read_size
        try:
            data = self._sock.recv(size)
        except (BlockingIOError, InterruptedError):
            return None
        if len(data) < size:
            self._short = bool(data)
            if len(data) * 4 < size > LEAST_READ:
                self._read_size = size // 2
        elif size < MOST_READ:
            self._read_size = size * 2
        return data

    async def wait_readable(self) -> None:
        await trio.lowlevel.wait_readable(self._sock)

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        try:
            if len(buffers) == 1:
                return self._sock.send(buffers[0])
            return self._sock.sendmsg(buffers[:MOST_BUFFERS]) if buffers else 0
        except (BlockingIOError, InterruptedError):
            return 0

    async def wait_writable(self) -> None:
        await trio.lowlevel.wait_writable(self._sock)

    async def aclose(self) -> None:
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


class StreamTransport:
    """Any trio stream, such as one end of `trio.testing.memory_stream_pair()`: for simulation, and not for speed.

    Args:
        stream: the stream; closed by `aclose`.
    """

    __slots__ = ("_received", "_stream", "_unsent")

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._received: bytes | None = None
        self._unsent = b""

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    def receive_nowait(self) -> bytes | None:
        received, self._received = self._received, None
        return received

    async def wait_readable(self) -> None:
        if self._received is None:
            try:
                self._received = bytes(await self._stream.receive_some())
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                raise ConnectionResetError("the stream is broken") from exc

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        if self._unsent:
            return 0
        self._unsent = b"".join(buffers)
        return len(self._unsent)

    async def wait_writable(self) -> None:
        unsent, self._unsent = self._unsent, b""
        try:
            await self._stream.send_all(unsent)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise BrokenPipeError("the stream is broken") from exc

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


async def receive(transport: Transport) -> bytes:
    """Wait for bytes; b"" at the end."""
    while (data := transport.receive_nowait()) is None:
        await transport.wait_readable()
    return data


async def send_all(transport: Transport, data: Buffer) -> None:
    """Wait until all of `data` has been sent."""
    rest = memoryview(data)
    while rest or transport.unsent:
        rest = rest[transport.send_nowait((rest,) if rest else ()) :]
        if rest or transport.unsent:
            await transport.wait_writable()
