"""An open tunnel on asyncio: the core's shell, as a callback Protocol over a transport.

Bytes that arrive go to the core at once. Output is gathered until the callbacks of one turn of the loop have run, then
written; the core is asked for more only while the transport takes it all, so that what waits stays where it is shared
out fairly: in the session. The transport's own buffer holds what one write left over, and the kernel's at most
`NOTSENT_LOWAT` that is not on its way.

One timer a tunnel. No task, no future, nothing a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any, Final, cast

from common.loopback import send_without_pacing
from common.tunnel.core import TunnelCore
from common.tunnel.turns import COUNTED

__all__ = ["NOTSENT_LOWAT", "SharedBufferConnection", "TunnelConnection", "as_transport", "prepare_socket"]

NOTSENT_LOWAT: Final = 128 * 1024
"""Bytes not yet sent above which the kernel takes no more (tcp(7), TCP_NOTSENT_LOWAT): a small request waits behind
this much of a bulk transfer, instead of behind a whole send buffer of megabytes."""

_TIMER_SLACK: Final = 0.001
"""Seconds: a timer of uvloop may ring up to a millisecond early, and would then have to be set once more."""


def prepare_socket(transport: asyncio.BaseTransport) -> None:
    """Set a connection's socket up for a tunnel."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        # All are for speed alone; a kernel without one of them carries the tunnel as well.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
        send_without_pacing(sock, transport.get_extra_info("peername"))


class _Gone(asyncio.Transport):
    """Stands for the transport of a connection that is lost."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: object) -> None:
        """There is nobody to send it to."""

    def writelines(self, list_of_data: object) -> None:
        """There is nobody to send it to."""

    def abort(self) -> None:
        """It is."""


_GONE: Final = _Gone()


class _Connection(asyncio.BaseProtocol):
    """What both kinds have in common: everything but how bytes arrive.

    Args:
        core: of the tunnel.
        transport: open; everything received from here on is the tunnel's.
        loop: the transport's.
        on_lost: told when the connection is gone.
    """

    __slots__ = ("_core", "_flush_is_due", "_loop", "_on_lost", "_paused", "_timer", "_timer_at", "_transport")

    def __init__(
        self,
        core: TunnelCore,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[Any], None] | None = None,
    ) -> None:
        self._core = core
        self._transport = transport
        self._loop = loop
        self._on_lost = on_lost
        self._paused = False
        self._flush_is_due = False
        self._timer_at = core.deadline
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'paused ' if self._paused else ''}{self._core!r}>"

    def begin(self, rest: bytes) -> None:
        """Start, with what came after the handshake's head."""
        transport = self._transport
        if transport.is_closing():  # it broke under the handshake's answer, and will say so
            transport.set_protocol(self)
        else:
            # uvloop chooses how to read when reading starts, and not when the protocol changes.
            transport.pause_reading()
            transport.set_protocol(self)
            transport.resume_reading()
        # Whatever a write leaves over pauses us. Not 0: a TLS transport compares with >=, and would never resume.
        transport.set_write_buffer_limits(high=1, low=0)
        self._timer = self._call_at(self._timer_at)
        self._core.attach(self)
        if rest:
            self._core.receive(rest)

    def abort(self) -> None:
        """Cut the connection without a word."""
        self._transport.abort()

    # Shell, for the core.

    def output_ready(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def deadline_moved(self, when: float) -> None:
        if self._timer is not None and when < self._timer_at:
            self._timer.cancel()
            self._timer_at = when
            self._timer = self._call_at(when)

    # Protocol, for the transport.

    def eof_received(self) -> bool:
        self._core.receive_eof()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._core.connection_lost(exc)
        if self._on_lost is not None:
            self._on_lost(self)
            self._on_lost = None
        # Event loops keep the methods of a BufferedProtocol under TLS, and with them us, after the end. Holding the
        # transport as well would leave the half MiB of its buffers to the garbage collector, which comes by seldom.
        self._transport = _GONE

    def pause_writing(self) -> None:
        self._paused = True
        self._core.left_unsent(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._paused = False
        self._core.left_unsent(0)
        self._flush()

    def _flush(self) -> None:
        core = self._core
        transport = self._transport
        # What comes up from here on is seen by the loop below, or by `resume_writing`.
        self._flush_is_due = True
        core.settle()
        while not self._paused and core.has_output:
            buffers = core.data_to_send()
            if len(buffers) == 1:
                transport.write(buffers[0])
            elif buffers:
                transport.writelines(buffers)
        self._flush_is_due = False
        if core.finished and not core.has_output and not transport.is_closing():
            transport.close()

    def _call_at(self, when: float) -> asyncio.TimerHandle:
        """Have `_tick` called at `when`, on the clock of `time.monotonic`: the loop's own stands still during a turn,
        and counts whole milliseconds on uvloop, too coarse to measure a round trip by.
        """
        return self._loop.call_later(max(0.0, when - time.monotonic()) + _TIMER_SLACK, self._tick)

    def _tick(self) -> None:
        core = self._core
        if self._transport.is_closing():
            # It was closed, and the peer does not take what is left.
            self._timer = None
            self._transport.abort()
            return
        core.tick()
        if core.finished:
            self._flush()
            self._timer_at = time.monotonic() + core.config.close_timeout
        else:
            self._timer_at = core.deadline
        self._timer = self._call_at(self._timer_at)


class TunnelConnection(_Connection, asyncio.Protocol):
    """Is handed bytes of its own: what a device needs, whose streams' data are views of them."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        core = self._core
        core.receive(data)
        if core.finished:
            self._flush()


class SharedBufferConnection(_Connection, asyncio.BufferedProtocol):
    """Has bytes read into a buffer that all of a relay's tunnels share, one read at a time: the unmasking makes bytes
    of their own of them anyway. Under TLS it also spares uvloop an allocation of 256 KiB for each record.
    """

    __slots__ = ("_buffer",)

    def __init__(
        self,
        core: TunnelCore,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[Any], None] | None = None,
        *,
        buffer: memoryview,
    ) -> None:
        super().__init__(core, transport, loop, on_lost)
        self._buffer = buffer

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- the buffer is what it is
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        core = self._core
        core.receive(self._buffer[:nbytes])
        if core.finished:
            self._flush()
        elif nbytes >= COUNTED and core.moved(nbytes, self) and not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on(self) -> None:
        """It is this tunnel's turn to be read from again (`common.tunnel.turns`)."""
        if not self._transport.is_closing():
            self._transport.resume_reading()


def as_transport(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """The transport that a stream protocol is given, as the type it is."""
    return cast(asyncio.Transport, transport)
