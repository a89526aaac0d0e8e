"""One stream of the tunnel joined to one local socket: bytes, half-closes, resets and back-pressure, both ways.

    tunnel -> service   The tunnel's reader calls `data_received`, which sends straight into the socket. What the socket
                        does not take is kept, the stream is told to hold its peer back, and a task writes the rest as
                        the socket takes it; that task exists only for as long as something is kept.
    service -> tunnel   One task waits for the socket to be readable, receives, and writes into the stream. It stops
                        receiving while the stream is above its high-water mark, so the kernel holds the service back.

    what happens                          what the other side sees
    end of file from the service          half-close of the stream; the other direction goes on
    half-close from the relay             shutdown(SHUT_WR), after what was kept
    both                                  close, after what was kept
    reset from the relay, tunnel lost     RST (close with SO_LINGER 0), so that the service does not take a cut
                                          transfer for a whole one
    connection reset by the service       reset of the stream
    the service stops reading             the answer that it may still be sending is delivered; what comes for it
                                          meanwhile is dropped; then, or after a while, the stream is reset. It is the
                                          lingering close of nginx: a 413 in the middle of an upload arrives.

No stream object, no copy that is not needed: performance.md, 7 and 9, was measured with this shape.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from typing import Final

import trio

from common.tunnel.stream import Buffer, ResetCode, Stream

__all__ = ["LINGER", "STALLED", "Splice"]

LEAST_READ: Final = 16 * 1024
MOST_READ: Final = 256 * 1024
"""Bytes asked of the socket at once. A read allocates what it asks for, so it asks for little until it gets as much;
the most is the stream's high-water mark. 256 KiB cost a bulk download a seventh less than 64 KiB: each read that makes
room wakes the service up to send more.
"""

READS_A_WAKEUP: Final = 4
"""Full reads in a row before other tasks get their turn."""

LINGER: Final = 5.0
"""Seconds that the client has to take the last answer of a service that stopped reading; nginx's lingering_timeout."""

STALLED: Final = 60.0
"""Seconds without progress after which the rest for a service is given up, when the stream has already ended. As long
as the stream lives, idle streams are the relay's business."""

_MAX_IOV: Final = 64
"""Buffers handed to one sendmsg: far below IOV_MAX (1024), and enough to fill any socket buffer."""

_HARD_CLOSE: Final = struct.pack("ii", 1, 0)
"""`struct linger`, on, 0 s: close sends RST (socket(7), SO_LINGER)."""


class Splice:
    """The sink of one accepted stream, and the owner of its local socket.

    `run` must be called with the stream in the same turn in which it was accepted.

    Args:
        sock: connected and non-blocking; closed when `run` returns.
        nursery: where the writing task is started; it must outlive `run`.
    """

    __slots__ = (
        "_closed",
        "_deaf",
        "_kept",
        "_nursery",
        "_paused",
        "_peer_eof",
        "_sock",
        "_stream",
        "_stream_over",
        "_wake",
        "_writes",
        "_writing",
    )

    def __init__(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        self._sock = sock
        self._nursery = nursery
        self._stream: Stream | None = None
        self._kept: deque[bytes | memoryview] = deque()  # what the socket did not take yet
        self._writing = False  # the writing task exists
        self._writes = 0  # how often it got on; tells progress from a stall
        self._paused = False  # the stream wants no more for now
        self._peer_eof = False
        self._stream_over = False
        self._deaf = False  # the service takes no more bytes
        self._closed = False  # the socket
        self._wake: trio.Event | None = None

    async def run(self, stream: Stream) -> None:
        """Carry bytes until both directions have ended, or one side gave up. Leaves the socket closed."""
        self._stream = stream
        try:
            if self._sock.fileno() >= 0:  # else the stream was over before this began
                await self._copy_from_service(stream)
            while not (self._closed or self._deaf or self._stream_over):
                await self._woken()
            if not (self._closed or self._stream_over):
                await self._linger(stream)
            while not self._closed:
                await self._see_rest_written()
        finally:
            if not self._closed:
                # Cancelled: the agent stops and does not wait for this stream.
                stream.reset(ResetCode.CANCELLED)
                self._close(hard=True)

    async def _copy_from_service(self, stream: Stream) -> None:
        """Returns at the service's end of file, or with the socket closed."""
        sock = self._sock
        recv = sock.recv
        write = stream.write
        size = LEAST_READ
        while True:
            try:
                await trio.lowlevel.wait_readable(sock)
                for _ in range(READS_A_WAKEUP):
                    data = recv(size)
                    if not data:
                        stream.write_eof()
                        return
                    write(data)
                    while self._paused:
                        await self._woken()
                    if self._closed:
                        return
                    if len(data) < size:
                        if len(data) * 4 < size > LEAST_READ:
                            size //= 2
                        break
                    if size < MOST_READ:
                        size *= 2
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                if not self._closed:
                    # A reset drops what waits to be sent: let the answer that came just before it go out first, as far
                    # as the tunnel takes it in this turn.
                    await trio.lowlevel.checkpoint()
                    stream.reset(ResetCode.CANCELLED)
                    self._close(hard=False)
                return

    async def _linger(self, stream: Stream) -> None:
        """The service has sent all it had and takes nothing: let the client have it, then end the other direction."""
        with trio.move_on_after(LINGER):
            while not (self._closed or self._stream_over):
                await self._woken()
            return
        stream.reset(ResetCode.CANCELLED)
        self._close(hard=False)

    async def _see_rest_written(self) -> None:
        """The stream has ended well, before the service had taken all of it."""
        writes = self._writes
        with trio.move_on_after(STALLED):
            while not self._closed:
                await self._woken()
        if self._writes == writes:
            self._close(hard=True)

    async def _woken(self) -> None:
        """Wait until something changed; only `run`'s task waits, and it looks for itself what it was."""
        self._wake = trio.Event()
        await self._wake.wait()

    def _wake_up(self) -> None:
        if self._wake is not None:
            self._wake.set()

    # What the tunnel calls.

    def data_received(self, data: Buffer) -> None:
        if self._closed or self._deaf:
            return
        if self._kept:
            self._kept.append(bytes(data))
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._service_stopped_reading()
            return
        if sent == len(data):
            return
        # A copy: a view would keep the tunnel's whole receive buffer alive for as long as the service is slow.
        self._kept.append(bytes(memoryview(data)[sent:]))
        assert self._stream is not None
        self._stream.pause_reading()
        if not self._writing:
            self._writing = True
            self._nursery.start_soon(self._write_kept)

    def eof_received(self) -> None:
        self._peer_eof = True
        if not self._kept:
            self._shut_down_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream_over = True
        if exc is not None:
            self._close(hard=True)
        elif not self._kept:
            self._close(hard=False)
        self._wake_up()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake_up()

    # tunnel -> service, while the socket is full

    async def _write_kept(self) -> None:
        kept = self._kept
        sock = self._sock
        try:
            while kept:
                await trio.lowlevel.wait_writable(sock)
                try:
                    sent = sock.sendmsg([kept[i] for i in range(min(len(kept), _MAX_IOV))])
                except BlockingIOError:
                    continue
                self._writes += 1
                while kept and sent >= len(kept[0]):
                    sent -= len(kept.popleft())
                if sent:
                    kept[0] = memoryview(kept[0])[sent:]
        except trio.ClosedResourceError:
            return
        except OSError:
            self._service_stopped_reading()
            return
        finally:
            self._writing = False
        self._all_written()

    def _all_written(self) -> None:
        assert self._stream is not None
        if self._stream_over:
            self._close(hard=False)
            return
        self._stream.resume_reading()
        if self._peer_eof:
            self._shut_down_writing()

    def _service_stopped_reading(self) -> None:
        """Drop what comes for the service from here on. What it has sent is still read; its reset is found there."""
        self._deaf = True
        if self._kept:
            self._kept.clear()
            self._all_written()
        self._wake_up()

    def _shut_down_writing(self) -> None:
        if not (self._closed or self._deaf):
            with contextlib.suppress(OSError):  # ENOTCONN: reset by the service, which the reading side finds out
                self._sock.shutdown(socket.SHUT_WR)

    def _close(self, *, hard: bool) -> None:
        """Close the socket and wake whoever waits for it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._paused = False
        self._kept.clear()
        if hard:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _HARD_CLOSE)
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        self._wake_up()
