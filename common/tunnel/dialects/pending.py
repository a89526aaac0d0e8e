"""A stream that the relay opened, between its request and the device's answer."""

from __future__ import annotations

from collections.abc import Callable

from common.ids import ServiceName
from common.tunnel.core import TunnelCore
from common.tunnel.dialects.ends import DISCARD
from common.tunnel.errors import StreamLostError
from common.tunnel.stream import Buffer, ResetCode, StreamSink
from common.tunnel.tunnel_stream import TunnelStream
from common.wire.messages import OpenRefusal

__all__ = ["Pending"]


class Pending:
    """Implements `PendingStream`, and is the stream's first sink: it keeps what comes early, at most one window, since
    reading is paused meanwhile.

    Args:
        core: of the tunnel.
        stream: as the relay opened it.
    """

    __slots__ = (
        "_answered",
        "_core",
        "_ended",
        "_error",
        "_held",
        "_sink",
        "_stream",
        "on_lost",
        "service",
        "timeout",
        "traceparent",
    )

    def __init__(self, core: TunnelCore, stream: TunnelStream) -> None:
        self._core = core
        self._stream = stream
        self._held: list[Buffer] = []
        self._sink: StreamSink | None = None
        self._ended = False
        self._error: Exception | None = None
        self._answered = False
        self.on_lost: Callable[[], None] | None = None
        self.service = ServiceName("")
        self.timeout = 10.0
        """Seconds; the default of `StreamOpen`, for a dialect that does not say."""
        self.traceparent: str | None = None
        stream.sink = self
        stream.pause_reading()

    def __repr__(self) -> str:
        state = "answered" if self._answered else "lost" if self._stream.over else "waiting"
        return f"<{type(self).__name__} {self.service!r} {state}>"

    # PendingStream

    def accept(self, sink: StreamSink) -> TunnelStream:
        if self._answered:
            raise ValueError("the stream was answered before")
        self._answered = True
        self._sink = sink
        self._send_acceptance(self._stream)
        self._core.call_later(self._hand_over, sink)
        return self._stream

    def refuse(self, code: OpenRefusal | str, detail: str = "") -> None:
        if self._answered:
            raise ValueError("the stream was answered before")
        self._answered = True
        self._held.clear()
        if not self._stream.over:
            self._stream.sink = DISCARD
            self._send_refusal(self._stream, code, detail)

    def _send_acceptance(self, stream: TunnelStream) -> None:
        """Say yes in the dialect's way; the stream may be over."""

    def _send_refusal(self, stream: TunnelStream, code: str, detail: str) -> None:  # noqa: ARG002 -- for subclasses
        """Say no in the dialect's way."""
        stream.reset(ResetCode.REFUSED)

    def _hand_over(self, sink: StreamSink) -> None:
        """What came so far is the sink's, and so is everything from here on, in the order it came."""
        stream, held = self._stream, self._held
        self._held = []
        stream.sink = sink
        if self._error is not None:
            stream.sink = None
            sink.connection_lost(self._error)
            return
        stream.hand_over(held)
        if self._ended and not stream.over:
            stream.receive_eof()

    # StreamSink

    def data_received(self, data: Buffer) -> None:
        self._held.append(data)

    def eof_received(self) -> None:
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = exc if exc is not None else StreamLostError(ResetCode.CANCELLED)
        if not self._answered and self.on_lost is not None:
            on_lost, self.on_lost = self.on_lost, None
            on_lost()

    def pause_writing(self) -> None:
        if self._sink is not None:  # which may have written already, with what came so far not handed over yet
            self._sink.pause_writing()

    def resume_writing(self) -> None:
        if self._sink is not None:
            self._sink.resume_writing()
