"""A sink that keeps what it got, and can be waited on without a clock."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from common.tunnel.stream import Buffer

__all__ = ["CountingSink", "RecordingSink"]

_PATIENCE = 30.0
"""Seconds until a wait is a failure. No test passes by it."""


class RecordingSink:
    """The end of a stream in a test."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.eof = False
        self.lost = False
        self.error: Exception | None = None
        self.paused = False
        self.calls: list[str] = []
        """Names of the callbacks, in order, without repetition of data_received."""
        self._changed = asyncio.Event()

    def data_received(self, data: Buffer) -> None:
        self.received += data
        self._note("data")

    def eof_received(self) -> None:
        self.eof = True
        self._note("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.error = exc
        self._note("lost")

    def pause_writing(self) -> None:
        self.paused = True
        self._note("pause")

    def resume_writing(self) -> None:
        self.paused = False
        self._note("resume")

    async def until(self, condition: Callable[[RecordingSink], bool]) -> None:
        """Return once `condition` holds; it is looked at after each callback."""
        async with asyncio.timeout(_PATIENCE):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def wait_received(self, data: bytes) -> None:
        """Wait until exactly `data` has come."""
        await self.until(lambda sink: len(sink.received) >= len(data))
        assert bytes(self.received) == data

    async def wait_eof(self) -> bytes:
        """Wait for the end of what the peer sends; returns all of it."""
        await self.until(lambda sink: sink.eof)
        return bytes(self.received)

    async def wait_lost(self) -> Exception | None:
        """Wait until the stream is over; returns why."""
        await self.until(lambda sink: sink.lost)
        return self.error

    def _note(self, call: str) -> None:
        if not self.calls or self.calls[-1] != call:
            self.calls.append(call)
        self._changed.set()


class CountingSink(RecordingSink):
    """One for more bytes than a test wants to keep."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> bytes:
        """SHA-256 of what came."""
        return self._digest.digest()

    def data_received(self, data: Buffer) -> None:
        self.length += len(data)
        self._digest.update(data)
        self._note("data")
