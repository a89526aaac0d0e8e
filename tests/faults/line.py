"""One direction of one connection of a chaos proxy: what was read waits on the line until it is due, and is written.

The reader marks where the steps of the script fall among the bytes, the writer takes them there, so that what came
before a fault arrives and what comes after does not.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from tests.faults.script import Action, Direction, Step

__all__ = ["LINE", "Line", "Note"]

LINE = 1 << 30
"""Bytes that may be under way: 2 s at 500 MiB/s."""
_READ = 256 * 1024
_HEAD = 2048
_JITTER_BLOCK = 16 * 1024
"""Bytes that have the same jitter."""

_END = Step(direction=Direction.BOTH, action=Action.RESET)
"""On the line when the source was reset."""

Note = Callable[[int, str], None]
"""Called with the offset of a byte and what was done there."""


@dataclass(frozen=True, slots=True)
class _Item:
    """Bytes, a step, or the end of the source: FIN (None)."""

    due: float
    what: bytes | Step | None


class Line:
    """See the module.

    Args:
        source: read from.
        sink: written to.
        steps: of this direction, with nothing random left; bytes count from the first.
        rng: makes a generator for a purpose.
        note: told what is done.
        on_reset: ends the connection with RST to both ends.
        on_broken: told when the sink was reset.
        size: bytes under way at most.
    """

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        *,
        steps: Iterator[Step],
        rng: Callable[[str], random.Random],
        note: Note,
        on_reset: Callable[[], None],
        on_broken: Callable[[], None],
        size: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._sink = sink
        self._rng = rng
        self._note = note
        self._on_reset = on_reset
        self._on_broken = on_broken
        self._size = size
        self._items: deque[_Item] = deque()
        self._held = 0
        self._changed = asyncio.Event()  # for the writer: an item, or another state
        self._room = asyncio.Event()  # for the reader
        self._room.set()
        self._read = 0
        self._marks: list[Step] = []  # by `at`; those ahead of what was read
        self._timers: set[asyncio.TimerHandle] = set()
        self.written = 0
        self.head = b""
        """The first bytes that were read, for who wants to know what connection this is."""
        # What is in force. Delay and jitter when a byte is read, the others when it is written.
        self._delay = self._jitter = 0.0
        self._rate = 0
        self._merge: Step | None = None
        self._stalled = False
        self._thrown = False  # after a half-close: read, and thrown away
        self._broken = False  # the sink is gone: the same
        self.source_broken = False
        """Set by who owns both lines, when the other one could not write to our source."""
        self._last_due = 0.0
        self._free_at = 0.0  # when the bandwidth allows the next byte
        self._block = -1
        self._drawn = 0.0
        self._jitters = rng("jitter")
        self._split: Step | None = None
        self._splits = rng("split")
        self._piece = 0  # bytes that are left of the write under way
        for step in steps:
            self._plan(step)

    @property
    def pumps(self) -> tuple[Callable[[], Coroutine[None, None, None]], ...]:
        """The reader and the writer; either ends when its side has."""
        return self._pump_in, self._pump_out

    def take(self, step: Step, rng: random.Random) -> None:
        """Take a step now, or where it says from now."""
        drawn = step.drawn(rng)
        if drawn.at is not None:
            drawn = replace(drawn, at=drawn.at + self._read)
        self._plan(drawn)

    def close(self) -> None:
        """Forget the steps that were to come."""
        for timer in self._timers:
            timer.cancel()

    def _plan(self, step: Step) -> None:
        if step.at is not None and (step.at > self._read or step.action is Action.CORRUPT):
            self._marks.append(step)
            self._marks.sort(key=lambda mark: mark.at or 0)
        elif step.after is not None:
            timer = self._loop.call_later(step.after, self._now, replace(step, after=None))
            self._timers.add(timer)
        else:
            self._now(step)

    def _now(self, step: Step) -> None:
        """At once: before what is on the line, but for what needs a place among the bytes."""
        if step.action is Action.CORRUPT:
            self._marks.insert(0, replace(step, at=self._read))
        elif step.action is Action.HALF_CLOSE:
            self._put(step)
        else:
            self._enforce(step)

    # The reader.

    async def _pump_in(self) -> None:
        while True:
            await self._room.wait()
            try:
                data = await self._loop.sock_recv(self._source, _READ)
                if not data and self.source_broken:
                    raise ConnectionResetError  # the other line met it first, and took the error away
            except OSError:
                await self._room.wait()  # a reset does not get through a stall
                self._put(_END)
                return
            if not data:
                await self._room.wait()
                self._put(None)
                return
            if len(self.head) < _HEAD:
                self.head += data[: _HEAD - len(self.head)]
            self._arrange(data)
            await asyncio.sleep(0)

    def _arrange(self, data: bytes) -> None:
        """Put bytes on the line, with the steps between them."""
        while self._marks:
            step = self._marks[0]
            # A byte that is to be corrupted must be there; anything else happens as soon as those before it are.
            if (step.at or 0) + (step.action is Action.CORRUPT) > self._read + len(data):
                break
            del self._marks[0]
            before = max((step.at or 0) - self._read, 0)
            self._put_bytes(data[:before])
            data = data[before:]
            if step.action is Action.CORRUPT:
                self._note(self._read, f"corrupt {step.mask:#04x}")
                data = bytes((data[0] ^ step.mask,)) + data[1:]
            else:
                self._put(step)
        self._put_bytes(data)

    def _put_bytes(self, data: bytes) -> None:
        while data:
            part = data
            if self._jitter:
                part = data[: _JITTER_BLOCK - self._read % _JITTER_BLOCK]
            self._put(part)
            self._read += len(part)
            data = data[len(part) :]

    def _put(self, what: bytes | Step | None) -> None:
        if isinstance(what, bytes):
            self._held += len(what)
            if self._held >= self._size:
                self._room.clear()
        due = self._loop.time() + self._delay + self._jitter_here() if self._delay or self._jitter else 0.0
        self._last_due = max(due, self._last_due)
        self._items.append(_Item(self._last_due, what))
        self._changed.set()

    def _jitter_here(self) -> float:
        if not self._jitter:
            return 0.0
        while self._block < self._read // _JITTER_BLOCK:
            self._block += 1
            self._drawn = self._jitters.random()
        return self._drawn * self._jitter

    # The writer.

    async def _pump_out(self) -> None:
        while True:
            await self._until_due()
            what = self._items.popleft().what
            if what is None:
                if not self._thrown:
                    self._half_close()
                return
            if isinstance(what, bytes):
                self._held -= len(what)
                await self._write(what)
                if not self._stalled and self._held < self._size:
                    self._room.set()
            elif what.action is Action.HALF_CLOSE:
                self._note(self.written, what.action)
                self._half_close()
                self._thrown = True
            else:
                self._enforce(what)

    async def _until_due(self) -> None:
        """Until the first item may be taken."""
        while True:
            self._changed.clear()
            if not self._stalled and self._items:
                left = self._items[0].due - self._loop.time()
                if left <= 0:
                    return
                await self._change(left)
            else:
                await self._changed.wait()

    async def _change(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _write(self, data: bytes) -> None:
        if self._thrown or self._broken:
            return
        if self._merge is not None:
            data = await self._gather(data, self._merge)
        view = memoryview(data)
        while view:
            while self._stalled:
                self._changed.clear()
                await self._changed.wait()
            part = view[: self._next_size(len(view))]
            if self._rate:
                await self._pace(len(part))
                if self._stalled:
                    continue
            try:
                await self._loop.sock_sendall(self._sink, part)
            except OSError:
                self._broken = True  # its reset is found by who reads from it
                self._on_broken()
                return
            self.written += len(part)
            if self._split is not None:
                self._piece = max(self._piece - len(part), 0)  # what was under way when splitting began is no piece
                await asyncio.sleep(0)
            view = view[len(part) :]

    def _next_size(self, most: int) -> int:
        if self._rate:
            most = min(most, max(self._rate // 100, 1))
        if self._split is None:
            return most
        if not self._piece:
            self._piece = self._splits.randint(self._split.size, self._split.size_to or self._split.size)
        return min(most, self._piece)

    async def _pace(self, size: int) -> None:
        now = self._loop.time()
        start = max(self._free_at, now - 0.02)  # what a late timer lost is made up for
        self._free_at = start + size / self._rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)

    async def _gather(self, data: bytes, step: Step) -> bytes:
        """More bytes that are due, until there are enough or time is up; nothing but bytes."""
        parts, size, until = [data], len(data), self._loop.time() + step.seconds
        while size < step.size and (left := until - self._loop.time()) > 0:
            if self._items and not isinstance(self._items[0].what, bytes):
                break
            if self._items and self._items[0].due <= self._loop.time():
                more = self._items.popleft().what
                assert isinstance(more, bytes)
                self._held -= len(more)
                size += len(more)
                parts.append(more)
                continue
            self._changed.clear()
            await self._change(left)
        return b"".join(parts)

    def _half_close(self) -> None:
        with suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)

    def _enforce(self, step: Step) -> None:
        """Have a step hold from here on."""
        self._note(self.written, str(replace(step, at=None)))
        match step.action:
            case Action.DELAY:
                self._delay, self._jitter = step.seconds, step.jitter
            case Action.BANDWIDTH:
                self._rate = step.size
            case Action.SPLIT:
                self._split, self._piece = step, 0
            case Action.MERGE:
                self._merge = step
            case Action.CLEAR:
                self._delay = self._jitter = 0.0
                self._rate = self._piece = 0
                self._split = self._merge = None
            case Action.STALL:
                self._stalled = True
                self._room.clear()
            case Action.RESUME:
                self._stalled = False
                self._room.set()
            case Action.RESET:
                self._stalled = True  # until the pumps are cancelled
                self._on_reset()
            case Action.HALF_CLOSE | Action.CORRUPT:
                raise AssertionError("these have a place among the bytes")
        self._changed.set()
