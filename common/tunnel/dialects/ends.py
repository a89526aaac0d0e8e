"""What the ends of both dialects share: closing, draining, counting; and the placeholders for a stream's sink."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from common.tunnel.config import TunnelConfig
from common.tunnel.core import TunnelCore
from common.tunnel.errors import (
    OpenLimitError,
    StreamLostError,
    TunnelDrainingError,
    TunnelError,
    TunnelLostError,
)
from common.tunnel.interfaces import CloseReason, Subprotocol, TunnelHandler, TunnelStatistics
from common.tunnel.link import Link
from common.tunnel.seams import State
from common.tunnel.stream import Buffer, ResetCode
from common.tunnel.tunnel_stream import TunnelStream
from common.yamux import (
    GoneAwayError,
    LocalProtocolError,
    MemoryBudget,
    Role,
    SessionClosedError,
    StreamIdsExhaustedError,
)

__all__ = ["DISCARD", "Discard", "HandlerT", "TunnelEnd", "error_before_answer", "open_error"]

HandlerT = TypeVar("HandlerT", bound=TunnelHandler)


class Discard:
    """A sink for a stream that nobody wants any more."""

    __slots__ = ()

    def data_received(self, data: Buffer) -> None: ...

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


DISCARD = Discard()


def open_error(error: LocalProtocolError) -> TunnelError:
    """What the multiplexer's refusal to open a stream means to who wanted it."""
    if isinstance(error, GoneAwayError | StreamIdsExhaustedError):
        return TunnelDrainingError(error.detail)
    if isinstance(error, SessionClosedError):
        return TunnelLostError(error.detail)
    return OpenLimitError(error.detail, retry_after=1.0)


@dataclass(frozen=True, slots=True)
class _Retirement:
    """How a tunnel whose place was taken ends; moments on the shell's clock."""

    reason: str
    last_received: float
    """When it began; anything later is a sign of life."""
    proof_due: float
    due: float


class TunnelEnd(Generic[HandlerT]):
    """Base of the four ends. Implements `Tunnel` for the handler and `Owner` for the core.

    Args:
        handler: gets the tunnel's callbacks.
    """

    ROLE: ClassVar[Role]
    SUBPROTOCOL: ClassVar[Subprotocol]

    __slots__ = ("_drain_told", "_draining", "_retirement", "_streams_total", "core", "end", "handler")

    core: TunnelCore

    def __init__(self, handler: HandlerT) -> None:
        self.handler = handler
        self.end: TunnelLostError | None = None
        """Why the tunnel is over, once it is."""
        self._draining = False
        self._drain_told = False
        self._retirement: _Retirement | None = None
        self._streams_total = 0

    def __repr__(self) -> str:
        draining = " draining" if self._draining else ""
        return f"<{type(self).__name__} {self.core.state.value}{draining} streams={self._service_streams()}>"

    def open(
        self, link: Link, *, config: TunnelConfig, clock: Callable[[], float], budget: MemoryBudget | None
    ) -> TunnelCore:
        """Make the core over `link`, and begin."""
        self.core = TunnelCore(link, self.ROLE, self, config=config, clock=clock, budget=budget)
        self._begin()
        self.core.call_later(self._tell_opened)
        return self.core

    def _begin(self) -> None:
        """Open what the dialect needs."""

    def _tell_opened(self) -> None:
        try:
            self.handler.tunnel_opened(self)
        except Exception:
            # Nobody knows of the tunnel, so nobody would ever close it.
            self.close(CloseReason.INTERNAL)
            raise

    def _own_streams(self) -> int:
        """How many of the core's streams are the dialect's own."""
        return 0

    def _service_streams(self) -> int:
        return self.core.stream_count - self._own_streams()

    # Tunnel

    @property
    def subprotocol(self) -> Subprotocol:
        return self.SUBPROTOCOL

    @property
    def closed(self) -> bool:
        return self.core.state is not State.OPEN

    def close(self, reason: str = CloseReason.CLOSED) -> None:
        self.core.close(reason)

    def drain(self, *, reconnect_after: float = 0.0, reason: str = CloseReason.DRAINING) -> None:
        if self._draining or self.closed:
            return
        self._draining = True
        self._announce_drain(reconnect_after, reason)
        self.core.session.go_away()
        self.core.output()
        self._look_whether_drained()

    def _announce_drain(self, reconnect_after: float, reason: str) -> None:
        """Say more than GOAWAY does, where the dialect can."""

    def retire(self, reason: str, *, grace: float, proof_within: float) -> None:
        if self.closed or self._retirement is not None:
            return
        if self._service_streams() == 0:
            self.close(reason)
            return
        core = self.core
        now = core.now()
        self._retirement = _Retirement(reason, core.last_received, now + min(proof_within, grace), now + grace)
        core.session.ping(now)
        self.drain(reason=reason)
        core.want_tick(self._retirement.proof_due)

    def _look_whether_drained(self) -> None:
        if self._draining and not self._drain_told and not self.closed and self._service_streams() == 0:
            self._drain_told = True
            self.core.call_later(self._tell_drained)

    def _tell_drained(self) -> None:
        if self.closed:
            return
        if self._retirement is not None:
            self.close(self._retirement.reason)
        else:
            self.handler.tunnel_drained()

    @property
    def last_received(self) -> float:
        return self.core.last_received

    def statistics(self) -> TunnelStatistics:
        return self.core.statistics(
            own_streams=self._own_streams(), streams_total=self._streams_total, draining=self._draining
        )

    # Owner

    def stream_opened(self, stream: TunnelStream) -> None:
        """By default the peer opens nothing."""
        stream.sink = DISCARD
        stream.reset(ResetCode.REFUSED)

    def stream_over(self, stream: TunnelStream) -> None:  # noqa: ARG002 -- for subclasses
        self._look_whether_drained()

    def go_away_received(self) -> None:
        """By default nothing: the session refuses to open streams from now on."""

    def tick(self, now: float) -> float | None:
        retirement = self._retirement
        if retirement is None:
            return None
        due = retirement.proof_due if self.core.last_received == retirement.last_received else retirement.due
        if now < due:
            return due
        self.close(retirement.reason)
        return None

    def tunnel_lost(self, error: TunnelLostError) -> None:
        self.end = error
        self.handler.tunnel_closed(error)


def error_before_answer(error: Exception | None) -> TunnelError:
    """What the end of a stream means to who waits for the device's answer.

    Args:
        error: as its sink was told; None if the device just ended it.
    """
    if isinstance(error, StreamLostError):
        if error.reset_code is ResetCode.LIMIT:
            return OpenLimitError("the device takes no more streams for now", retry_after=1.0)
        if error.reset_code is ResetCode.DRAINING:
            return TunnelDrainingError("the device takes no more streams")
        if error.reset_code is ResetCode.SESSION_LOST:
            return TunnelLostError(error.detail)
    if isinstance(error, TunnelError):
        return error
    return StreamLostError(ResetCode.CANCELLED, "the device ended the stream before it answered")
