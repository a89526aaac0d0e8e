"""What the tunnel's tests share: handlers and sinks that write down what they are told, and a clock that stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from common.tunnel.errors import TunnelError, TunnelLostError
from common.tunnel.interfaces import DeviceTunnel, PendingStream, RelayTunnel
from common.tunnel.stream import Buffer, ResetCode, Stream
from common.wire.messages import DeviceHello, Drain, RelayHello, Service, Stats

HELLO = DeviceHello(software="test-agent/1", services=[Service(name="web")])
RELAY_HELLO = RelayHello(software="test-relay/1", session_id="ses_1", epoch=7)


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class RecordingSink:
    """Keeps what it is told.

    Args:
        changed: called after each callback, so that a test can wait for one.
        limit: bytes after which it pauses reading by itself; None for never.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None, *, limit: int | None = None) -> None:
        self._changed = changed
        self.limit = limit
        self.stream: Stream | None = None
        self.received = bytearray()
        self.eof = False
        self.lost: list[Exception | None] = []
        self.pauses = 0
        self.writing_paused = False
        self.result: Stream | TunnelError | None = None

    def got_result(self, result: Stream | TunnelError) -> None:
        """`on_result` of `open_service`."""
        assert self.result is None
        self.result = result
        if not isinstance(result, TunnelError):
            self.stream = result
        self._changed()

    def attach(self, stream: Stream) -> None:
        self.stream = stream

    @property
    def over(self) -> bool:
        return bool(self.lost)

    @property
    def reset_code(self) -> ResetCode:
        """With which code the stream was lost."""
        (error,) = self.lost
        assert error is not None
        return error.reset_code  # type: ignore[attr-defined,no-any-return]

    def write(self, data: Buffer) -> None:
        assert self.stream is not None
        self.stream.write(data)

    def data_received(self, data: Buffer) -> None:
        assert not self.lost, "data after the end"
        assert not self.eof, "data after EOF"
        self.received += data
        if self.limit is not None and len(self.received) >= self.limit and self.stream is not None:
            self.stream.pause_reading()
        self._changed()

    def eof_received(self) -> None:
        assert not self.eof
        self.eof = True
        self._changed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self._changed()

    def pause_writing(self) -> None:
        assert not self.writing_paused
        self.pauses += 1
        self.writing_paused = True
        self._changed()

    def resume_writing(self) -> None:
        assert self.writing_paused
        self.writing_paused = False
        self._changed()


class Echo(RecordingSink):
    """Sends back what comes, at the pace at which the peer takes it, and ends when the peer does."""

    def data_received(self, data: Buffer) -> None:
        assert self.stream is not None
        self.stream.write(data)
        if self.writing_paused:
            self.stream.pause_reading()
        self._changed()

    def eof_received(self) -> None:
        super().eof_received()
        assert self.stream is not None
        self.stream.write_eof()

    def resume_writing(self) -> None:
        super().resume_writing()
        assert self.stream is not None
        self.stream.resume_reading()


class Source(RecordingSink):
    """Sends `left` bytes at the pace at which the peer takes them, then half-closes."""

    def __init__(self, payload: bytes, changed: Callable[[], None] = lambda: None) -> None:
        super().__init__(changed)
        self.left = memoryview(payload)

    def pump(self) -> None:
        assert self.stream is not None
        while self.left and not self.writing_paused:
            chunk, self.left = self.left[:50_000], self.left[50_000:]
            self.stream.write(chunk)
            if not self.left:
                self.stream.write_eof()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.pump()


class Handler:
    """What both recording handlers have."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self.tunnel: Any = None
        self.hello: Any = None
        self.drains: list[Drain] = []
        self.drained = 0
        self.closed: list[TunnelLostError] = []

    def tunnel_opened(self, tunnel: Any) -> None:
        assert self.tunnel is None
        self.tunnel = tunnel
        self._changed()

    def hello_received(self, hello: Any) -> None:
        assert self.hello is None
        self.hello = hello
        self._changed()

    def drain_received(self, drain: Drain) -> None:
        self.drains.append(drain)
        self._changed()

    def tunnel_drained(self) -> None:
        self.drained += 1
        self._changed()

    def tunnel_closed(self, exc: TunnelError) -> None:
        assert isinstance(exc, TunnelLostError)
        self.closed.append(exc)
        self._changed()


class RecordingRelay(Handler):
    """A relay's handler."""

    tunnel: RelayTunnel

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        super().__init__(changed)
        self.services: list[list[Service]] = []
        self.stats: list[Stats] = []

    def services_changed(self, services: Sequence[Service]) -> None:
        self.services.append(list(services))
        self._changed()

    def stats_received(self, stats: Stats) -> None:
        self.stats.append(stats)
        self._changed()


class RecordingDevice(Handler):
    """A device's handler, which keeps the requests, or answers those that `serve` has a function for."""

    tunnel: DeviceTunnel

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        super().__init__(changed)
        self.requests: list[PendingStream] = []
        self.serve: dict[str, Callable[[PendingStream], RecordingSink]] = {}
        self.sinks: list[RecordingSink] = []

    def service_requested(self, request: PendingStream) -> None:
        serve = self.serve.get(request.service)
        if serve is None:
            self.requests.append(request)
        else:
            self.sinks.append(serve(request))
        self._changed()
