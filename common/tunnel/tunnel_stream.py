"""One stream of a tunnel: credit, water marks, and what it still may do.

Credit. Bytes given to a sink are consumed when its `data_received` returns, unless it paused: then they are held, and
consumed when it resumes. The peer is thus never allowed more than its window beyond what a paused sink was given.

Water marks. `pause_writing` when more than `high_water` bytes wait to be sent, `resume_writing` once at most
`low_water` do. Both are lower while the process holds much (`common.tunnel.holdings`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.tunnel.errors import StreamLostError
from common.tunnel.holdings import UNCOUNTED
from common.tunnel.stream import Buffer, ResetCode, StreamSink
from common.tunnel.turns import COUNTED
from common.yamux import StreamNotOpenError

if TYPE_CHECKING:
    from common.tunnel.core import TunnelCore

__all__ = ["TunnelStream"]

logger = logging.getLogger("homeport.tunnel")


class TunnelStream:
    """Implements `common.tunnel.stream.Stream`. Made by `TunnelCore`.

    A stream that is over has no core: its calls do nothing.
    """

    __slots__ = (
        "_core",
        "_eof_sent",
        "_held",
        "_quiet_sweeps",
        "_reading_paused",
        "_waits",
        "_writing_paused",
        "id",
        "is_control",
        "sink",
    )

    def __init__(self, core: TunnelCore, stream_id: int, sink: StreamSink | None) -> None:
        self._core: TunnelCore | None = core
        self._held = 0
        self._reading_paused = False
        self._writing_paused = False
        self._waits = False
        self._eof_sent = False
        self._quiet_sweeps = 0
        self.id = stream_id
        self.is_control = False
        self.sink = sink

    def __repr__(self) -> str:
        if self._core is None:
            return f"<TunnelStream {self.id} over>"
        flags = [
            word
            for word, holds in (
                ("eof sent", self._eof_sent),
                ("reading paused", self._reading_paused),
                ("writing paused", self._writing_paused),
            )
            if holds
        ]
        return f"<TunnelStream {self.id} {', '.join(flags) or 'open'}>"

    # What the owner of the stream calls.

    @property
    def over(self) -> bool:
        """Whether the stream has ended both ways, was reset, or went down with its tunnel."""
        return self._core is None

    def write(self, data: Buffer) -> None:
        core = self._core
        if core is None or self._eof_sent or not data:
            return
        session = core.session
        try:
            session.send_data(self.id, data)
        except StreamNotOpenError:  # the peer has reset it: that event stands behind the one which is being dispatched
            return
        self._quiet_sweeps = 0
        waiting = session.buffered(self.id)
        if len(data) >= COUNTED and not self._waits and core.moved(len(data), self):
            self._waits = True
            self._pause_writing()
        elif waiting > UNCOUNTED and not self._writing_paused and (waiting > core.config.high_water or core.is_pressed):
            session.notify_drained(self.id, min(core.config.low_water, waiting // 2))
            self._pause_writing()
        if waiting > UNCOUNTED:
            core.recount()
        core.output()

    def _pause_writing(self) -> None:
        if not self._writing_paused:
            self._writing_paused = True
            if self.sink is not None:
                self.sink.pause_writing()

    def write_eof(self) -> None:
        core = self._core
        if core is None or self._eof_sent:
            return
        self._eof_sent = True
        with contextlib.suppress(StreamNotOpenError):  # as in `write`
            core.session.end_stream(self.id)
            core.output()

    def reset(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        core = self._core
        if core is None:
            return
        core.session.reset_stream(self.id, code)
        core.forget(self)
        self.detach()
        lost = StreamLostError(code, f"the stream was reset by this side: {code.name.lower()}")
        core.call_later(core.stream_over, self, lost)

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if not self._reading_paused:
            return
        self._reading_paused = False
        core = self._core
        if self._held and core is not None:
            held = self._held
            self._held = 0
            core.session.consumed(self.id, held, core.now())
            core.hold(-held)
            core.output()

    # What the dialects call.

    def hand_over(self, pieces: Sequence[Buffer]) -> None:
        """Give the sink the pieces that were kept for it while reading was paused, and read on unless it pauses."""
        self._reading_paused = False
        for piece in pieces:
            if self._core is None or self.sink is None:  # reset by the sink itself
                return
            try:
                self.sink.data_received(piece)
            except Exception as exc:
                self._sink_failed("data_received", exc)
        if not self._reading_paused:
            self._reading_paused = True
            self.resume_reading()

    # What the core calls.

    def receive(self, data: bytes | memoryview, now: float) -> None:
        """Bytes from the peer."""
        size = len(data)
        self._quiet_sweeps = 0
        if self._reading_paused:
            # A sink that is paused keeps what it gets, perhaps for long: not a small view of a large read.
            data = bytes(data)
        sink = self.sink
        if sink is None:
            return
        try:
            sink.data_received(data)
        except Exception as exc:
            self._sink_failed("data_received", exc)
        core = self._core
        if core is None:
            return
        if self._reading_paused:
            self._held += size
            core.hold(size)
        else:
            core.session.consumed(self.id, size, now)

    def receive_eof(self) -> None:
        """The peer half-closed."""
        try:
            if self.sink is not None:
                self.sink.eof_received()
        except Exception as exc:
            self._sink_failed("eof_received", exc)

    def go_on(self) -> None:
        """It is this stream's turn to write again (`common.tunnel.turns`), once the peer has taken what was written."""
        self._waits = False
        core = self._core
        if core is None:
            return
        if core.session.buffered(self.id) > core.config.low_water:
            core.session.notify_drained(self.id, core.config.low_water)
        else:
            self.drained()

    def drained(self) -> None:
        """What waits to be sent fell to the low-water mark."""
        if not self._writing_paused or self._waits:
            return
        self._writing_paused = False
        try:
            if self.sink is not None:
                self.sink.resume_writing()
        except Exception as exc:
            self._sink_failed("resume_writing", exc)

    def detach(self) -> None:
        """The stream is over; what its owner still calls does nothing."""
        core = self._core
        self._core = None
        if self._held and core is not None:
            core.hold(-self._held)

    def holds(self) -> int:
        """Bytes that wait for the sink or for the peer."""
        return 0 if self._core is None else self._held + self._core.session.buffered(self.id)

    def sweep(self) -> int:
        """Count one more look that found the stream without traffic; returns how many there were in a row."""
        self._quiet_sweeps += 1
        return self._quiet_sweeps

    def _sink_failed(self, callback: str, exc: Exception) -> None:
        logger.error("a sink raised from %s; its stream is reset", callback, exc_info=exc)
        self.reset(ResetCode.INTERNAL)
