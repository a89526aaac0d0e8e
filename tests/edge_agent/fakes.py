"""A stream and a request as the tunnel would hand them to the agent, driven by the test."""

from __future__ import annotations

from collections.abc import Callable

from common.ids import ServiceName
from common.tunnel.errors import StreamLostError
from common.tunnel.stream import Buffer, ResetCode, Stream, StreamSink

__all__ = ["FakeRequest", "FakeStream"]


class FakeStream(Stream):
    """Records what the sink's owner does. `high_water` bytes written and not `taken` pause the writer."""

    def __init__(self, sink: StreamSink, *, high_water: int = 256 * 1024) -> None:
        self.sink = sink
        self.written = bytearray()
        self.eof = False
        self.reset_with: ResetCode | None = None
        self.reading_paused = False
        self.pauses = 0
        """How often reading was paused."""
        self.writing_paused = False
        self.over = False
        self._taken = 0
        self._high_water = high_water

    # What the agent calls.

    def write(self, data: Buffer) -> None:
        if self.over or self.eof:
            return
        self.written += data
        if len(self.written) - self._taken > self._high_water and not self.writing_paused:
            self.writing_paused = True
            self.sink.pause_writing()

    def write_eof(self) -> None:
        self.eof = True

    def reset(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        if not self.over:
            self.reset_with = code
            self.over = True

    def pause_reading(self) -> None:
        self.reading_paused = True
        self.pauses += 1

    def resume_reading(self) -> None:
        self.reading_paused = False

    # What the test calls, as the tunnel would.

    def take(self) -> None:
        """All that was written is on its way."""
        self._taken = len(self.written)
        if self.writing_paused:
            self.writing_paused = False
            self.sink.resume_writing()

    def end(self) -> None:
        """Both directions have ended."""
        self.over = True
        self.sink.connection_lost(None)

    def lose(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        """Reset by the peer, or lost with its tunnel."""
        self.over = True
        self.sink.connection_lost(StreamLostError(code))


class FakeRequest:
    """Implements `common.tunnel.interfaces.PendingStream`."""

    def __init__(self, service: str, *, timeout: float = 10.0) -> None:
        self.service = ServiceName(service)
        self.timeout = timeout
        self.traceparent: str | None = None
        self.on_lost: Callable[[], None] | None = None
        self.stream: FakeStream | None = None
        self.refused: tuple[str, str] | None = None

    def accept(self, sink: StreamSink) -> Stream:
        assert self.stream is None
        assert self.refused is None
        self.on_lost = None
        self.stream = FakeStream(sink)
        return self.stream

    def refuse(self, code: str, detail: str = "") -> None:
        assert self.stream is None
        assert self.refused is None
        self.on_lost = None
        self.refused = (str(code), detail)

    def give_up(self) -> None:
        """The relay no longer wants it."""
        assert self.on_lost is not None
        self.on_lost()
