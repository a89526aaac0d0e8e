"""What owns a tunnel sees of it: the two ends, their handlers, and a stream that waits for an answer.

A shell (`on_asyncio`, `on_trio`) makes the end after the handshake and tells it to the handler with `tunnel_opened`.
Everything here is synchronous: calls queue and return, handlers are called back on the loop's thread, one at a time.
Handler and sink callbacks must not raise or block; one that raises is logged, and the stream it belongs to is reset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from common.ids import ServiceName
from common.tunnel.errors import TunnelError
from common.tunnel.stream import Stream, StreamSink
from common.wire.messages import DeviceHello, Drain, OpenRefusal, RelayHello, Service, Stats

__all__ = [
    "CloseReason",
    "DeviceHandler",
    "DeviceTunnel",
    "OnResult",
    "OpenTicket",
    "PendingStream",
    "RelayHandler",
    "RelayTunnel",
    "Subprotocol",
    "Tunnel",
    "TunnelHandler",
    "TunnelStatistics",
]


class Subprotocol(StrEnum):
    """What is spoken inside the WebSocket, in the server's order of preference."""

    HOMEPORT_V1 = "homeport.v1"
    YAMUX = "yamux"


class CloseReason(StrEnum):
    """Codes that travel as the reason of the WebSocket close, and that the peer logs. Others may come."""

    CLOSED = "closed"
    REPLACED = "replaced"
    CLOSED_BY_OPERATOR = "closed_by_operator"
    REVOKED = "revoked"
    DRAINING = "draining"
    PROTOCOL_ERROR = "protocol_error"
    LIMIT = "limit"
    HELLO_TIMEOUT = "hello_timeout"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelStatistics:
    """A tunnel as it is now."""

    streams: int
    """Open streams that carry a service; the control stream is not counted."""
    streams_total: int
    bytes_in: int
    """Payload bytes received on streams."""
    bytes_out: int
    """Payload bytes sent on streams."""
    buffered: int
    """Payload bytes that wait to be sent."""
    rtt: float | None
    """Seconds, smoothed; None before the first measurement."""
    last_received: float
    """Moment of the last byte from the peer, on the shell's monotonic clock."""
    draining: bool


class Tunnel(Protocol):
    """What both ends have."""

    @property
    def subprotocol(self) -> Subprotocol: ...

    @property
    def closed(self) -> bool:
        """Whether the tunnel is over; `tunnel_closed` of the handler has been or is being called."""
        ...

    def drain(self, *, reconnect_after: float = 0.0, reason: str = CloseReason.DRAINING) -> None:
        """Take and open no more streams, and tell the peer so (a Drain message where there is a control stream, and
        GOAWAY). Streams that are open go on; the handler's `tunnel_drained` is called when the last one has ended, at
        once if there is none. Waiting with a limit and then calling `close` is the owner's. Idempotent.

        Args:
            reconnect_after: seconds after which the device should dial anew; from the relay only.
            reason: a code that the peer logs.
        """
        ...

    def close(self, reason: str = CloseReason.CLOSED) -> None:
        """End the tunnel: every stream's sink gets `connection_lost`, the handler `tunnel_closed`, both soon; the peer
        gets GOAWAY and a WebSocket close with the reason, and a few seconds to answer. Idempotent.

        Args:
            reason: a `CloseReason` or another code of at most 100 ASCII characters.
        """
        ...

    @property
    def last_received(self) -> float:
        """Moment of the last byte from the peer, as in `statistics`, but cheap: the relay asks all tunnels often."""
        ...

    def statistics(self) -> TunnelStatistics: ...


class OpenTicket(Protocol):
    """A service stream that is being opened."""

    def cancel(self) -> None:
        """Give it up: the stream is reset, `on_result` is never called. A no-op once the result is there."""


OnResult = Callable[[Stream | TunnelError], None]
"""Called once, never from inside `open_service`: with the stream when the device accepted, else with the reason:

    OpenRefusedError    the device refused: `.reason` is an `OpenRefusal` or another code, `.detail` safe to show
    OpenTimeoutError    no answer in time; the stream was reset
    OpenLimitError      a limit on streams is reached, here or at the device; `retry_after` may be set
    TunnelDrainingError this end or the peer takes no more streams
    StreamLostError     the stream was reset before the answer
    TunnelLostError     the tunnel ended before the answer
"""


class RelayTunnel(Tunnel, Protocol):
    """The relay's end."""

    def retire(self, reason: str, *, grace: float, proof_within: float) -> None:
        """Another tunnel has taken this one's place: `drain` it, and `close` it when its last stream has ended, when
        the grace is over, or as soon as it seems dead. All of that is done here.

        Args:
            reason: of the drain and of the close.
            grace: seconds that the streams have at most.
            proof_within: seconds in which the device must give a sign of life. It is asked for one.
        """
        ...

    def open_service(
        self,
        service: ServiceName,
        sink: StreamSink,
        *,
        timeout: float,
        traceparent: str | None = None,
        on_result: OnResult,
    ) -> OpenTicket:
        """Open a stream to a service of the device.

        The sink is silent until `on_result` got the stream. Bytes may reach it directly after that call, from within
        the same wakeup, so the sink must be ready when `on_result` returns; call `pause_reading` there to hold them.
        On subprotocol `yamux` there is no answer to wait for: the result comes in the next turn of the loop.

        Args:
            service: which one; ignored by subprotocol `yamux`, whose device has one.
            sink: gets the bytes.
            timeout: seconds until the device must have answered.
            traceparent: W3C Trace Context, passed to the device.
            on_result: see `OnResult`. It is always called, unless the ticket was cancelled.
        """
        ...

    def greet(self, hello: RelayHello) -> None:
        """Send the relay's hello, once the device's control stream is there. Call it once, when the session is
        registered. A no-op on subprotocol `yamux`.
        """
        ...


class PendingStream(Protocol):
    """A stream that the relay opened and that waits for the device's answer.

    Bytes that arrive before the answer are held, at most one window of them.
    """

    @property
    def service(self) -> ServiceName:
        """The service asked for; the empty string on subprotocol `yamux`. Not checked against any list."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds, from the request on, in which the relay wants the answer."""
        ...

    @property
    def traceparent(self) -> str | None: ...

    on_lost: Callable[[], None] | None
    """Set it to learn that the relay gave the stream up before the answer: stop dialling. Called at most once, and not
    after `accept` or `refuse`.
    """

    def accept(self, sink: StreamSink) -> Stream:
        """Answer ok and go on as a byte stream. Held bytes are given to the sink soon, not from inside this call. If
        the stream was lost meanwhile, the sink's `connection_lost` is called soon; from inside this call if the
        whole tunnel has ended.
        """
        ...

    def refuse(self, code: OpenRefusal | str, detail: str = "") -> None:
        """Answer with a refusal and end the stream. A no-op if the stream was lost meanwhile."""
        ...


class DeviceTunnel(Tunnel, Protocol):
    """The device's end."""

    def update_services(self, services: Sequence[Service]) -> None:
        """Tell the relay the whole list of services, again. A no-op on subprotocol `yamux`."""
        ...

    def send_stats(self, stats: Stats) -> None:
        """Tell the relay figures. Dropped when earlier ones still wait to be sent, and on subprotocol `yamux`."""
        ...


class TunnelHandler(Protocol):
    """What both handlers have."""

    def tunnel_opened(self, tunnel: Any) -> None:
        """The handshake is done. Streams may be opened from here on."""
        ...

    def tunnel_drained(self) -> None:
        """After `drain`: the last stream has ended. Called once; `close` the tunnel now."""
        ...

    def tunnel_closed(self, exc: TunnelError) -> None:
        """The tunnel is over; called once, after the `connection_lost` of its streams. The exception says why:
        `TunnelLostError`, whose `reason` is a `CloseReason` and `by_peer` tells who ended it.
        """
        ...

    def drain_received(self, drain: Drain) -> None:
        """The peer takes no more streams and will go away. On subprotocol `yamux`, where a GOAWAY is all that tells,
        `drain` has its defaults. A peer may say it more than once.
        """
        ...


class RelayHandler(TunnelHandler, Protocol):
    """Implemented by the relay, one for each tunnel."""

    def tunnel_opened(self, tunnel: RelayTunnel) -> None:
        """The handshake is done. Streams may be opened from here on."""
        ...

    def hello_received(self, hello: DeviceHello) -> None:
        """The device said who it is. Never called on subprotocol `yamux`."""
        ...

    def services_changed(self, services: Sequence[Service]) -> None:
        """The device's whole list of services, again."""
        ...

    def stats_received(self, stats: Stats) -> None:
        """Figures of the device."""
        ...


class DeviceHandler(TunnelHandler, Protocol):
    """Implemented by the agent, one for each tunnel."""

    def tunnel_opened(self, tunnel: DeviceTunnel) -> None:
        """The handshake is done; the device's hello is on its way."""
        ...

    def hello_received(self, hello: RelayHello) -> None:
        """The relay registered the session. Never called on subprotocol `yamux`."""
        ...

    def service_requested(self, request: PendingStream) -> None:
        """The relay wants a stream to a service: `accept` or `refuse` it, now or later."""
        ...
