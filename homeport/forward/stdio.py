"""Standard input and output as one end of a joined pair, for `ssh -o ProxyCommand=...`.

They may be pipes, sockets, files or a terminal, each shared with other processes: making them non-blocking would change
them for those, too, and a plain file cannot be polled. So a thread reads and a thread writes, both blocking. One chunk
at most waits on the reading side, and on the writing side what the gateway had sent when it was told to hold on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable

from homeport.forward.ends import End

__all__ = ["StdioEnd"]

_CHUNK = 64 * 1024

_HIGH_WATER = 256 * 1024
"""Bytes waiting to be written at which the gateway is told to hold on, and `_LOW_WATER` at which it may go on."""
_LOW_WATER = 64 * 1024


class StdioEnd:
    """Two file descriptors as an `End`.

    Args:
        loop: where the calls to the other end are made.
        source: descriptor that is read, usually 0.
        sink: descriptor that is written, usually 1; it is closed at the end of the other stream.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, source: int, sink: int) -> None:
        self._loop = loop
        self._source = source
        self._sink = sink
        self._other: End | None = None
        self._turn = threading.Semaphore(0)
        """Released when the reading thread may read one chunk."""
        self._turn_owed = True
        """Whether that thread waits for a turn, because nobody can take a chunk now."""
        self._held = False
        self._output: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._waiting = 0
        self._input_ended = False
        self._output_ended = False
        self._over: asyncio.Future[None] = loop.create_future()

    async def wait_closed(self) -> None:
        """Return once both directions have ended.

        Raises:
            OSError: one of them was cut short.
        """
        await self._over

    # On the event loop, from the other end.

    def attach(self, other: End) -> None:
        self._other = other

    def start(self) -> None:
        # Daemons: a read that waits for a terminal must not keep the process alive.
        threading.Thread(target=self._read, name="stdin", daemon=True).start()
        threading.Thread(target=self._write, name="stdout", daemon=True).start()
        self._give_turn()

    def write(self, data: bytes) -> None:
        if self._over.done():
            return
        before, self._waiting = self._waiting, self._waiting + len(data)
        self._output.put(data)
        if before < _HIGH_WATER <= self._waiting:
            assert self._other is not None
            self._other.pause_reading()

    def write_eof(self) -> None:
        self._output.put(None)

    def close(self) -> None:
        self._input_ended = True
        self.write_eof()

    def abort(self) -> None:
        self._end(ConnectionResetError("the connection to the gateway was reset"))

    def pause_reading(self) -> None:
        self._held = True

    def resume_reading(self) -> None:
        self._held = False
        self._give_turn()

    # On the event loop, from the threads.

    def _give_turn(self) -> None:
        if self._turn_owed and not self._held:
            self._turn_owed = False
            self._turn.release()

    def _received(self, data: bytes) -> None:
        assert self._other is not None
        if data:
            self._turn_owed = True
            self._other.write(data)
            self._give_turn()
        else:
            self._input_ended = True
            self._other.write_eof()
            self._end_if_complete()

    def _written(self, count: int) -> None:
        before, self._waiting = self._waiting, self._waiting - count
        if before > _LOW_WATER >= self._waiting:
            assert self._other is not None
            self._other.resume_reading()

    def _output_closed(self) -> None:
        self._output_ended = True
        self._end_if_complete()

    def _broke(self, exc: OSError) -> None:
        assert self._other is not None
        self._other.abort()
        self._end(exc)

    def _end_if_complete(self) -> None:
        if self._input_ended and self._output_ended and not self._over.done():
            self._over.set_result(None)

    def _end(self, exc: OSError) -> None:
        if not self._over.done():
            self._over.set_exception(exc)

    # The threads.

    def _read(self) -> None:
        data = b" "
        while data:
            self._turn.acquire()
            try:
                data = os.read(self._source, _CHUNK)
            except OSError as exc:
                self._call(self._broke, exc)
                return
            self._call(self._received, data)

    def _write(self) -> None:
        try:
            while (data := self._output.get()) is not None:
                left = memoryview(data)
                while left:
                    left = left[os.write(self._sink, left) :]
                self._call(self._written, len(data))
            os.close(self._sink)
        except OSError as exc:
            self._call(self._broke, exc)
        else:
            self._call(self._output_closed)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the command is over
            self._loop.call_soon_threadsafe(function, *arguments)
