"""Subprotocol `homeport.v1`: a control stream, and streams that begin by naming their service.

The device opens the control stream first of all and says hello on it; every other stream is the relay's, which sends
`StreamOpen` and waits for `StreamAnswer` before the stream is anyone's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from common.ids import ServiceName
from common.tunnel.core import TunnelCore
from common.tunnel.dialects.control import ControlStream
from common.tunnel.dialects.ends import DISCARD, TunnelEnd, error_before_answer, open_error
from common.tunnel.dialects.pending import Pending
from common.tunnel.errors import (
    OpenRefusedError,
    OpenTimeoutError,
    StreamLostError,
    TunnelDrainingError,
    TunnelError,
    TunnelLostError,
)
from common.tunnel.interfaces import CloseReason, DeviceHandler, OnResult, RelayHandler, Subprotocol
from common.tunnel.stream import Buffer, ResetCode, StreamSink
from common.tunnel.tunnel_stream import TunnelStream
from common.wire import (
    FROM_DEVICE,
    FROM_RELAY,
    STREAM_ANSWER,
    STREAM_OPEN,
    DeviceHello,
    Drain,
    Message,
    MessageReader,
    OpenRefusal,
    RelayHello,
    Service,
    ServicesChanged,
    Stats,
    StreamAnswer,
    StreamOpen,
    WireError,
    encode,
)
from common.yamux import LocalProtocolError, Role

__all__ = ["HomeportDevice", "HomeportRelay"]

_REASON_TIME: Final = 1.0
"""Seconds that a reason may come behind a GOAWAY."""

MAX_OPENING = 8 * 1024
"""Bytes of a `StreamOpen` or `StreamAnswer`: a detail of 1024 characters takes 4 KiB at most, and there may be a
thousand half-sent ones."""


class Opening:
    """A stream between `StreamOpen` and its answer. It is its own ticket, and the stream's first sink."""

    __slots__ = ("_on_result", "_reader", "_relay", "_sink", "deadline", "stream", "timeout")

    def __init__(
        self, relay: HomeportRelay, sink: StreamSink, on_result: OnResult, *, timeout: float, deadline: float
    ) -> None:
        self._relay = relay
        self._sink = sink
        self._on_result: OnResult | None = on_result
        self._reader = MessageReader(STREAM_ANSWER, MAX_OPENING)
        self.timeout = timeout
        self.deadline = deadline
        self.stream: TunnelStream | None = None

    def __repr__(self) -> str:
        return f"<Opening {self.stream!r} until {self.deadline:.1f}>"

    def fail(self, error: TunnelError, code: ResetCode = ResetCode.CANCELLED) -> None:
        """Give the result, unless it was given or is not wanted; the stream is reset."""
        on_result, self._on_result = self._on_result, None
        self._give_up(code)
        if on_result is not None:
            on_result(error)

    def _give_up(self, code: ResetCode) -> None:
        if self.stream is not None:
            self._relay.openings.pop(self.stream.id, None)
            if self.stream.sink is self:
                self.stream.sink = DISCARD
            self.stream.reset(code)

    # OpenTicket

    def cancel(self) -> None:
        if self._on_result is not None:
            self._on_result = None
            self._give_up(ResetCode.CANCELLED)

    # StreamSink

    def data_received(self, data: Buffer) -> None:
        try:
            answer = next(self._reader.receive(data), None)
        except WireError as error:
            self.fail(
                StreamLostError(ResetCode.PROTOCOL, f"the device's answer was none: {error.detail}"), ResetCode.PROTOCOL
            )
            return
        if not isinstance(answer, StreamAnswer):
            return
        if not answer.ok:
            self.fail(OpenRefusedError(answer.detail, reason=answer.code or OpenRefusal.FAILED))
            return
        stream, on_result = self.stream, self._on_result
        if stream is None or on_result is None:
            return
        self._on_result = None
        self._relay.openings.pop(stream.id, None)
        stream.sink = self._sink
        on_result(stream)
        if (rest := self._reader.take_rest()) and stream.sink is not None:
            stream.sink.data_received(rest)

    def eof_received(self) -> None:
        self.fail(error_before_answer(None))

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(error_before_answer(exc))

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class HomeportRelay(TunnelEnd[RelayHandler]):
    """The relay's end. Implements `RelayTunnel`."""

    ROLE: ClassVar[Role] = Role.SERVER
    SUBPROTOCOL: ClassVar[Subprotocol] = Subprotocol.HOMEPORT_V1

    __slots__ = ("_control", "_hello_deadline", "openings")

    def __init__(self, handler: RelayHandler) -> None:
        super().__init__(handler)
        self.openings: dict[int, Opening] = {}

    def _begin(self) -> None:
        self._control = ControlStream(self.core, FROM_DEVICE, self._message_received)
        self._hello_deadline: float | None = self.core.now() + self.core.config.hello_timeout

    def _own_streams(self) -> int:
        stream = self._control.stream
        return 0 if stream is None or stream.over else 1

    # RelayTunnel

    def open_service(
        self,
        service: ServiceName,
        sink: StreamSink,
        *,
        timeout: float,
        traceparent: str | None = None,
        on_result: OnResult,
    ) -> Opening:
        core = self.core
        opening = Opening(self, sink, on_result, timeout=timeout, deadline=core.now() + timeout)
        try:
            if self._draining:
                raise TunnelDrainingError
            stream = core.open_stream(opening)
        except LocalProtocolError as error:
            core.call_later(opening.fail, open_error(error))
        except TunnelDrainingError as error:
            core.call_later(opening.fail, error)
        else:
            self._streams_total += 1
            opening.stream = stream
            self.openings[stream.id] = opening
            stream.write(encode(StreamOpen(service=service, timeout=timeout, traceparent=traceparent)))
            core.want_tick(opening.deadline)
        return opening

    def greet(self, hello: RelayHello) -> None:
        self._control.send(hello)

    def _announce_drain(self, reconnect_after: float, reason: str) -> None:
        self._control.send(Drain(reconnect_after=reconnect_after, reason=reason))

    # Owner

    def stream_opened(self, stream: TunnelStream) -> None:
        if self._control.stream is None:
            self._control.attach(stream)
            self._control.flush()
        else:
            super().stream_opened(stream)

    def tick(self, now: float) -> float | None:
        hello_deadline = self._hello_deadline
        if hello_deadline is not None and now >= hello_deadline:
            self.core.violated("no hello in time", CloseReason.HELLO_TIMEOUT)
            return None
        for opening in [opening for opening in self.openings.values() if now >= opening.deadline]:
            if opening.stream is not None:
                del self.openings[opening.stream.id]
            error = OpenTimeoutError(f"the device did not answer within {opening.timeout:g} s")
            self.core.call_later(opening.fail, error, ResetCode.TIMEOUT)
        deadlines = [opening.deadline for opening in self.openings.values()]
        if hello_deadline is not None:
            deadlines.append(hello_deadline)
        if (retirement := super().tick(now)) is not None:
            deadlines.append(retirement)
        return min(deadlines, default=None)

    def tunnel_lost(self, error: TunnelLostError) -> None:
        self._control.let_go()
        super().tunnel_lost(error)

    def _message_received(self, message: Message) -> None:
        handler = self.handler
        if isinstance(message, DeviceHello):
            if self._hello_deadline is None:
                self.core.violated("a second hello")
                return
            self._hello_deadline = None
            handler.hello_received(message)
        elif self._hello_deadline is not None:
            self.core.violated(f"a {message.TYPE!r} message before hello")
        elif isinstance(message, ServicesChanged):
            handler.services_changed(message.services)
        elif isinstance(message, Stats):
            handler.stats_received(message)
        elif isinstance(message, Drain):
            handler.drain_received(message)


class HomeportPending(Pending):
    """A stream of the relay's, from its first byte to the device's answer."""

    __slots__ = ("_device", "_reader")

    def __init__(self, device: HomeportDevice, core: TunnelCore, stream: TunnelStream) -> None:
        super().__init__(core, stream)
        # Until the request is whole, what comes is read and not held.
        stream.resume_reading()
        self._device = device
        self._reader: MessageReader | None = MessageReader(STREAM_OPEN, MAX_OPENING)

    def data_received(self, data: Buffer) -> None:
        if self._reader is None:
            super().data_received(data)
            return
        try:
            request = next(self._reader.receive(data), None)
        except WireError:
            self._reset()
            return
        if not isinstance(request, StreamOpen):
            return
        if rest := self._reader.take_rest():
            self._held.append(rest)
        self._reader = None
        self._stream.pause_reading()
        self.service = ServiceName(request.service)
        self.timeout = request.timeout
        self.traceparent = request.traceparent
        self._device.requested(self)

    def eof_received(self) -> None:
        if self._reader is None:
            super().eof_received()
        else:
            self._reset()

    def _reset(self) -> None:
        self._stream.sink = DISCARD
        self._stream.reset(ResetCode.PROTOCOL)

    def _send_acceptance(self, stream: TunnelStream) -> None:
        stream.write(_ACCEPTED)

    def _send_refusal(self, stream: TunnelStream, code: str, detail: str) -> None:
        stream.resume_reading()
        stream.write(encode(StreamAnswer(ok=False, code=code[:128], detail=detail[:1024])))
        stream.write_eof()


_ACCEPTED = encode(StreamAnswer(ok=True))


class HomeportDevice(TunnelEnd[DeviceHandler]):
    """The device's end. Implements `DeviceTunnel`.

    Args:
        handler: gets the tunnel's callbacks.
        hello: what the device says first.
    """

    ROLE: ClassVar[Role] = Role.CLIENT
    SUBPROTOCOL: ClassVar[Subprotocol] = Subprotocol.HOMEPORT_V1

    __slots__ = ("_control", "_go_away_told_at", "_greeted", "_hello", "_left")

    def __init__(self, handler: DeviceHandler, hello: DeviceHello) -> None:
        super().__init__(handler)
        self._hello = hello
        self._greeted = False
        self._left = False
        """Whether the relay has said that it opens no more streams, in whatever way."""
        self._go_away_told_at: float | None = None

    def _begin(self) -> None:
        self._control = ControlStream(self.core, FROM_RELAY, self._message_received)
        self._control.attach(self.core.open_stream(self._control))
        self._control.send(self._hello)

    def _own_streams(self) -> int:
        stream = self._control.stream
        return 0 if stream is None or stream.over else 1

    # DeviceTunnel

    def update_services(self, services: Sequence[Service]) -> None:
        self._control.send(ServicesChanged(services=list(services)))

    def send_stats(self, stats: Stats) -> None:
        if not self._control.paused:
            self._control.send(stats, optional=True)

    def _announce_drain(self, reconnect_after: float, reason: str) -> None:
        self._control.send(Drain(reconnect_after=reconnect_after, reason=reason))

    # Owner

    def stream_opened(self, stream: TunnelStream) -> None:
        self._streams_total += 1
        HomeportPending(self, self.core, stream)

    def go_away_received(self) -> None:
        # Most often the reason follows, as a close or a Drain, maybe in the next packet. A relay that gives none will
        # open no more streams all the same, and a device that waited on would be out of reach.
        if self._go_away_told_at is None and not self._left:
            self._go_away_told_at = self.core.now() + _REASON_TIME
            self.core.want_tick(self._go_away_told_at)

    def tick(self, now: float) -> float | None:
        told_at = self._go_away_told_at
        if told_at is None or self._left:
            return None
        if now < told_at:
            return told_at
        self._left = True
        self.core.call_later(self.handler.drain_received, Drain())
        return None

    def tunnel_lost(self, error: TunnelLostError) -> None:
        self._control.let_go()
        super().tunnel_lost(error)

    def requested(self, request: HomeportPending) -> None:
        """The relay's request on a stream is whole."""
        self.handler.service_requested(request)

    def _message_received(self, message: Message) -> None:
        if isinstance(message, RelayHello):
            if self._greeted:
                self.core.violated("a second hello")
                return
            self._greeted = True
            # What the relay has given up, it answers no more; a device that waited longer would be out of reach.
            self.core.session.tighten_liveness(message.probe_interval, message.dead_after)
            self.core.want_tick(self.core.now())
            self.handler.hello_received(message)
        elif isinstance(message, Drain):
            self._left = True
            self.handler.drain_received(message)
