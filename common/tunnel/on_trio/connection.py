"""An open tunnel on trio: the core's shell, as three tasks and one that comes when it is needed.

    reader    waits until the connection is readable, takes what there is, and answers all of it in one flush
    flusher   sleeps until someone writes to a stream, then flushes what everyone wrote in that turn of the scheduler
    timer     sleeps until the core's deadline
    writer    exists while the connection is full: waits until it is writable, and sends on

A flush asks the core for more only while the connection takes it all, so that what waits stays where it is shared out
fairly: in the session.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from common.tunnel.core import TunnelCore
from common.tunnel.on_trio.transport import Transport
from common.tunnel.stream import Buffer

__all__ = ["run_connection"]

READS_A_TURN = 4
"""Reads, of 256 KiB at most, after which what they caused is sent and other tasks get their turn."""


async def run_connection(core: TunnelCore, transport: Transport, rest: bytes) -> None:
    """Run a tunnel over an open connection until it is over, then close the connection. If cancelled, cut it.

    Args:
        core: of the tunnel.
        transport: everything received from here on is the tunnel's.
        rest: what came after the handshake's head.
    """
    try:
        await _Connection(core, transport).run(rest)
    finally:
        core.connection_lost(None)
        await transport.aclose()


class _Connection:
    """Implements `Shell`."""

    def __init__(self, core: TunnelCore, transport: Transport) -> None:
        self._core = core
        self._transport = transport
        self._nursery: trio.Nursery | None = None
        self._reading = trio.CancelScope()
        self._alarm = trio.CancelScope()
        # What the connection did not take of the last flush, and the writer that waits for it to take more.
        self._pending: Sequence[Buffer] = ()
        self._all_sent: trio.Event | None = None
        # The flusher while it sleeps, and whether it, or whoever runs now, will flush anyway.
        self._sleeper: trio.lowlevel.Task | None = None
        self._flush_is_due = False

    async def run(self, rest: bytes) -> None:
        """Until the core is finished and what it had to say is sent."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._run_flusher)
            self._nursery.start_soon(self._run_timer)
            self._core.attach(self)
            if rest:
                self._core.receive(rest)
            with self._reading:
                await self._read()
            if self._all_sent is not None:
                with trio.move_on_after(self._core.config.close_timeout):
                    await self._all_sent.wait()
            self._nursery.cancel_scope.cancel()

    # Shell, for the core.

    def output_ready(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            if self._sleeper is not None:
                sleeper, self._sleeper = self._sleeper, None
                trio.lowlevel.reschedule(sleeper)

    def deadline_moved(self, when: float) -> None:
        self._alarm.deadline = when

    # The tasks.

    async def _read(self) -> None:
        core = self._core
        transport = self._transport
        try:
            while True:
                # The flush below is for all that these reads cause.
                self._flush_is_due = True
                for _ in range(READS_A_TURN):
                    data = transport.receive_nowait()
                    if not data:
                        break
                    core.receive(data)
                if data == b"":
                    core.receive_eof()
                self._flush()
                if core.finished:
                    return
                if data is None:
                    await transport.wait_readable()
                else:
                    await trio.lowlevel.checkpoint()
        except OSError as exc:
            self._broken(exc)

    async def _run_flusher(self) -> None:
        while True:
            if not self._flush_is_due:
                self._sleeper = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort_sleep)
            self._flush()
            if self._flush_is_due:
                await trio.lowlevel.checkpoint()

    def _abort_sleep(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _run_timer(self) -> None:
        core = self._core
        while not core.finished:
            with trio.CancelScope(deadline=core.deadline) as self._alarm:
                await trio.sleep_forever()
            core.tick()
            self._flush()

    async def _run_writer(self, all_sent: trio.Event) -> None:
        try:
            while not self._send():
                await self._transport.wait_writable()
        except OSError as exc:
            self._broken(exc)
        self._all_sent = None
        all_sent.set()

    # Sending.

    def _flush(self) -> None:
        """Run what was put off, and send what can be sent."""
        # What comes up from here on is seen by the loop of `_send`, or by the writer.
        self._flush_is_due = True
        self._core.settle()
        if self._all_sent is None:
            try:
                if not self._send() and self._nursery is not None:
                    self._all_sent = trio.Event()
                    self._nursery.start_soon(self._run_writer, self._all_sent)
            except OSError as exc:
                self._broken(exc)
        self._flush_is_due = False
        if self._core.finished:
            self._reading.cancel()

    def _send(self) -> bool:
        """Send until there is nothing left, or the connection takes no more; whether there is nothing left."""
        core = self._core
        transport = self._transport
        if transport.unsent:
            transport.send_nowait(())
        pending = self._pending
        while not transport.unsent:
            if not pending:
                if not core.has_output:
                    return True
                pending = core.data_to_send()
            size = 0
            for buffer in pending:
                size += len(buffer)
            sent = transport.send_nowait(pending)
            if sent < size:
                self._pending = _after(pending, sent)
                return False
            self._pending = pending = ()
        return False

    def _broken(self, exc: OSError) -> None:
        self._pending = ()
        self._core.connection_lost(exc)
        self._reading.cancel()


def _after(buffers: Sequence[Buffer], n: int) -> list[Buffer]:
    """The buffers without their first `n` bytes."""
    rest: list[Buffer] = []
    for buffer in buffers:
        size = len(buffer)
        if n >= size:
            n -= size
        else:
            rest.append(memoryview(buffer)[n:] if n else buffer)
            n = 0
    return rest
