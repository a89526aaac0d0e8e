"""Subprotocol `yamux`: each stream is, from its first byte, a raw connection to the device's one service.

For clients that know nothing of us but hashicorp/yamux. There is no control stream; draining is GOAWAY alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from common.ids import ServiceName
from common.tunnel.dialects.ends import Discard, HandlerT, TunnelEnd, error_before_answer, open_error
from common.tunnel.dialects.pending import Pending
from common.tunnel.errors import TunnelDrainingError
from common.tunnel.interfaces import DeviceHandler, OnResult, RelayHandler, Subprotocol
from common.tunnel.stream import ResetCode, StreamSink
from common.tunnel.tunnel_stream import TunnelStream
from common.wire.messages import Drain, RelayHello, Service, Stats
from common.yamux import LocalProtocolError, Role

__all__ = ["RawDevice", "RawRelay"]


class RawOpening(Discard):
    """A stream between `open_service` and its result, which is in the same turn of the loop, before its SYN leaves.

    It is its own ticket, and the stream's first sink.
    """

    __slots__ = ("_error", "_on_result", "_sink", "stream")

    def __init__(self, sink: StreamSink, on_result: OnResult) -> None:
        self._sink = sink
        self._on_result: OnResult | None = on_result
        self._error: Exception | None = None
        self.stream: TunnelStream | None = None

    def finish(self) -> None:
        """Give the result."""
        on_result, stream = self._on_result, self.stream
        if on_result is None or stream is None:
            return
        self._on_result = None
        if stream.over:
            on_result(error_before_answer(self._error))
        else:
            stream.sink = self._sink
            on_result(stream)

    def refused(self, error: Exception) -> None:
        """Give the result of an open that was not even begun."""
        on_result, self._on_result = self._on_result, None
        if on_result is not None:
            on_result(error_before_answer(error))

    def cancel(self) -> None:
        if self._on_result is not None:
            self._on_result = None
            if self.stream is not None:
                self.stream.reset(ResetCode.CANCELLED)

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = exc


class _RawEnd(TunnelEnd[HandlerT]):
    """What both ends have."""

    SUBPROTOCOL: ClassVar[Subprotocol] = Subprotocol.YAMUX

    __slots__ = ("_peer_drains",)

    def __init__(self, handler: HandlerT) -> None:
        super().__init__(handler)
        self._peer_drains = False

    def go_away_received(self) -> None:
        if not self._peer_drains:
            self._peer_drains = True
            self.handler.drain_received(Drain())


class RawRelay(_RawEnd[RelayHandler]):
    """The relay's end. Implements `RelayTunnel`."""

    ROLE: ClassVar[Role] = Role.SERVER

    __slots__ = ()

    def open_service(
        self,
        service: ServiceName,  # noqa: ARG002 -- the device has one
        sink: StreamSink,
        *,
        timeout: float,  # noqa: ARG002 -- there is no answer to wait for
        traceparent: str | None = None,  # noqa: ARG002 -- nothing carries it
        on_result: OnResult,
    ) -> RawOpening:
        opening = RawOpening(sink, on_result)
        try:
            if self._draining:
                raise TunnelDrainingError
            opening.stream = self.core.open_stream(opening)
        except LocalProtocolError as error:
            self.core.call_later(opening.refused, open_error(error))
        except TunnelDrainingError as error:
            self.core.call_later(opening.refused, error)
        else:
            self._streams_total += 1
            self.core.call_later(opening.finish)
        return opening

    def greet(self, hello: RelayHello) -> None:
        """There is no control stream to say it on."""


class RawDevice(_RawEnd[DeviceHandler]):
    """The device's end. Implements `DeviceTunnel`."""

    ROLE: ClassVar[Role] = Role.CLIENT

    __slots__ = ()

    def stream_opened(self, stream: TunnelStream) -> None:
        self._streams_total += 1
        self.handler.service_requested(Pending(self.core, stream))

    def update_services(self, services: Sequence[Service]) -> None:
        """There is no control stream to say it on."""

    def send_stats(self, stats: Stats) -> None:
        """There is no control stream to say it on."""
