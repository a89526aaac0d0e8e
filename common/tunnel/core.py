"""A tunnel without I/O: streams with sinks, over a link and a yamux session.

    connection -> receive(bytes) -> link -> session -> sinks
    streams -> session -> link -> data_to_send() -> connection

A shell owns the connection and calls `receive`, `receive_eof`, `connection_lost`, `tick` and `data_to_send`; the core
calls it back through `Shell` when there is something to send, or to do earlier than it had said. An owner (one of
`dialects`) decides what a stream begins with. None of the calls raises on what the peer does, and none waits.

A tunnel goes through three states, one way:

    OPEN --close(), or the peer broke a rule--> CLOSING --answered, cut, or close_timeout--> FINISHED
    OPEN --the peer closed, the connection broke, the peer is silent------------------------> FINISHED

On leaving OPEN every stream is lost and the owner is told, once. In CLOSING the last words wait to be sent and the
peer's answer is waited for; when FINISHED, the shell sends what is left and closes the connection.

Callbacks never run inside a call that their own owner made: what such a call brings about is put off to `settle`,
which every entry point of the shell ends with.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from common.tunnel.config import TunnelConfig
from common.tunnel.deferred import Deferred
from common.tunnel.errors import StreamLostError, TunnelLostError
from common.tunnel.holdings import UNCOUNTED, Holdings
from common.tunnel.interfaces import CloseReason, TunnelStatistics
from common.tunnel.link import Link, LinkEnd
from common.tunnel.seams import NOBODY, Owner, Shell, State
from common.tunnel.stream import Buffer, ResetCode, StreamSink
from common.tunnel.tunnel_stream import TunnelStream
from common.tunnel.turns import Turns, Waiter
from common.yamux import (
    DataReceived,
    Drained,
    Event,
    GoAwayCode,
    GoAwayReceived,
    MemoryBudget,
    PeerDeadError,
    RemoteProtocolError,
    Role,
    Session,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    StreamReset,
)

__all__ = ["FLUSH_SIZE", "TunnelCore"]

logger = logging.getLogger("homeport.tunnel")

FLUSH_SIZE = 128 * 1024
"""Bytes of one WebSocket message at most, and so between two looks at whether the connection takes more."""

_LAST_WORDS = 64 * 1024
"""Bytes that still go out when this side closes. What waits on the control stream is less."""

_NOTHING: Sequence[Buffer] = ()
_RESET_CODES = {int(code): code for code in ResetCode}


class TunnelCore:
    """See the module.

    Args:
        link: carries the bytes.
        role: CLIENT for the device, SERVER for the relay.
        owner: the dialect.
        config: limits.
        clock: seconds on a monotonic clock.
        budget: memory for receive windows that tunnels share.
    """

    __slots__ = (
        "_clock",
        "_close_deadline",
        "_deadline",
        "_final",
        "_held",
        "_holdings",
        "_idle_sweep_at",
        "_last_received",
        "_later",
        "_link",
        "_owner",
        "_reported",
        "_shell",
        "_state",
        "_streams",
        "_team",
        "_turns",
        "_unsent",
        "_uses_idle",
        "config",
        "session",
    )

    def __init__(
        self,
        link: Link,
        role: Role,
        owner: Owner,
        *,
        config: TunnelConfig,
        clock: Callable[[], float],
        budget: MemoryBudget | None = None,
    ) -> None:
        now = clock()
        self._link = link
        self._owner = owner
        self._clock = clock
        self._shell: Shell | None = None
        self._state = State.OPEN
        self._streams: dict[int, TunnelStream] = {}
        self._later = Deferred()
        self._final: list[Buffer] | None = None
        self._last_received = now
        self._close_deadline = 0.0
        self._uses_idle = config.stream_idle_timeout is not None
        self._idle_sweep_at = now + (config.stream_idle_timeout or 0.0) / 4
        self._deadline = now
        self._holdings: Holdings | None = None
        self._held = 0
        self._unsent = 0
        self._reported = 0
        self._turns: Turns | None = None
        self._team = ""
        self.config = config
        self.session = Session(role, config.yamux, now=now, budget=budget)

    def __repr__(self) -> str:
        return f"<TunnelCore {self._state.value} streams={len(self._streams)} {self._link!r}>"

    # For the shell.

    def attach(self, shell: Shell) -> None:
        """Say who owns the connection. Call it once, before anything else."""
        self._shell = shell
        self.settle()
        if self.has_output:
            self.output()

    def count_into(self, holdings: Holdings) -> None:
        """Have what this tunnel holds counted, and bounded with what others hold."""
        self._holdings = holdings

    def take_turns(self, turns: Turns, team: str) -> None:
        """Share the loop with the tunnels of others."""
        self._turns = turns
        self._team = team

    def moved(self, size: int, waiter: Waiter) -> bool:
        """Note that `size` bytes of this tunnel were moved; returns whether `waiter` is to stop until its turn."""
        return self._turns is not None and self._turns.moved(size, waiter, self, self._team)

    def left_unsent(self, size: int) -> None:
        """The connection holds so many bytes that it could not pass on yet."""
        self._unsent = size
        self.recount()

    @property
    def finished(self) -> bool:
        """Whether to send what `data_to_send` still gives and then close the connection."""
        return self._state is State.FINISHED

    @property
    def deadline(self) -> float:
        """When to call `tick`, at the latest."""
        return self._deadline

    @property
    def has_output(self) -> bool:
        """Whether `data_to_send` has something."""
        return bool(self._final) or self._link.has_output or self.session.has_output

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes of the connection. They must never be changed afterwards, unless the link makes bytes of its own
        of them, as a server's WebSocket does.
        """
        now = self._clock()
        self._last_received = now
        link = self._link
        if self._state is State.OPEN:
            self.session.heard(now)
            receive_data = self.session.receive_data
            for piece in link.receive(data, now):
                try:
                    events = receive_data(piece, now)
                except RemoteProtocolError as error:
                    self._dispatch(error.events, now)
                    if self._state is State.OPEN:  # no callback closed it meanwhile
                        self._violated(str(error))
                    break
                if events:
                    self._dispatch(events, now)
                    if self.session.is_closed:  # by what a callback did
                        break
        elif self._state is State.CLOSING:
            link.receive(data, now)
        if link.end is not None:
            self._link_ended(link.end)
        if self.has_output:
            self.output()
        self.settle()

    def receive_eof(self) -> None:
        """The peer ended the connection."""
        if self._state is State.OPEN:
            self._lose(TunnelLostError("the connection ended without a close", reason="network"), State.FINISHED)
        self._state = State.FINISHED
        self.settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; nothing can be sent any more."""
        if self._state is State.OPEN:
            detail = f"the connection broke: {exc}" if exc else "the connection was cut"
            self._lose(TunnelLostError(detail, reason="network"), State.FINISHED)
        self._state = State.FINISHED
        self._final = None
        self._shell = None
        self._unsent = 0
        self.settle()

    def tick(self) -> float:
        """Do what time demands; returns when to call again, at the latest."""
        now = self._clock()
        self._deadline = math.inf  # so that `want_tick` counts while this runs
        if self._state is State.OPEN:
            when = self._tick_open(now)
        else:
            when = self._close_deadline
            if now >= when:
                self._state = State.FINISHED
        self._deadline = min(self._deadline, when)
        if self._state is State.FINISHED or self.has_output:
            self.output()
        self.settle()
        return self._deadline

    def _tick_open(self, now: float) -> float:
        try:
            deadline = self.session.tick(now)
        except PeerDeadError as error:
            self._lose(TunnelLostError(str(error), reason="silence"), State.FINISHED)
            return now
        if deadline is None:  # the session is over, and so is this tunnel
            return now
        if self._uses_idle:
            if now >= self._idle_sweep_at:
                self._sweep_idle(now)
            deadline = min(deadline, self._idle_sweep_at)
        own = self._owner.tick(now)
        return deadline if own is None or own > deadline else own

    def _sweep_idle(self, now: float) -> None:
        timeout = self.config.stream_idle_timeout or 0.0
        self._idle_sweep_at = now + timeout / 4
        for stream in list(self._streams.values()):
            if not stream.is_control and stream.sweep() > 4:
                stream.reset(ResetCode.TIMEOUT)

    def data_to_send(self) -> Sequence[Buffer]:
        """What to send next, about `FLUSH_SIZE` bytes, empty if there is nothing. What is returned counts as sent; the
        buffers are never changed.
        """
        # First, so that a stream has its final sink before its SYN leaves.
        self.settle()
        if self._final is not None:
            final: Sequence[Buffer] = self._final
            self._final = None
            return final
        session = self.session
        buffers = session.data_to_send(FLUSH_SIZE)
        out = _NOTHING
        if buffers:
            size = 0
            for buffer in buffers:
                size += len(buffer)
            out = self._link.encode(buffers, size)
            if events := session.events():
                self._dispatch(events, self._clock())
        if self._link.has_output:
            out = (*self._link.control_to_send(), *out)
        self.settle()
        return out

    def settle(self) -> None:
        """Run the callbacks that were put off."""
        if self._later:
            self._later.run()
        if self._holdings is not None:
            self.recount()

    # For dialects and streams.

    @property
    def state(self) -> State:
        return self._state

    def now(self) -> float:
        """Seconds on the shell's monotonic clock."""
        return self._clock()

    def open_stream(self, sink: StreamSink) -> TunnelStream:
        """Open a stream.

        Raises:
            LocalProtocolError: the session allows none, see `Session.open_stream`.
        """
        stream_id = self.session.open_stream(self._clock())
        stream = self._streams[stream_id] = TunnelStream(self, stream_id, sink)
        self.output()
        return stream

    def output(self) -> None:
        """There is something to send or to settle: tell the shell."""
        if self._shell is not None:
            self._shell.output_ready()

    def call_later(self, call: Callable[..., object], *arguments: Any) -> None:
        """Put a callback off until the caller's own call has returned; made at once if the tunnel has ended and let go
        of its shell, which would have come back to it.
        """
        self._later.add(call, arguments)
        if self._shell is None and self._state is State.FINISHED:
            self.settle()
        else:
            self.output()

    def want_tick(self, when: float) -> None:
        """Have `tick` called at `when`, if it would be later."""
        if when < self._deadline:
            self._deadline = when
            if self._shell is not None:
                self._shell.deadline_moved(when)

    def hold(self, size: int) -> None:
        """A paused sink was given so many bytes; or, if less than 0, is none any more, or goes on."""
        self._held += size
        self.recount()

    def recount(self) -> None:
        """Report what is held, if it has changed."""
        holdings = self._holdings
        if holdings is None:
            return
        size = self._held + self._unsent + self.session.total_buffered
        if size <= UNCOUNTED:
            size = 0
        if size != self._reported:
            self._reported = size
            holdings.report(self, size)

    @property
    def is_pressed(self) -> bool:
        """Whether the process holds so much that writers are to be held early."""
        return self._holdings is not None and self._holdings.is_pressed

    def shed(self) -> bool:
        """Reset the stream that holds the most; see `Holder`."""
        streams = [stream for stream in self._streams.values() if not stream.is_control]
        largest = max(streams, key=TunnelStream.holds, default=None)
        if largest is None or not largest.holds():
            return False
        largest.reset(ResetCode.LIMIT)
        self.recount()
        return True

    def forget(self, stream: TunnelStream) -> None:
        """The stream is over."""
        self._streams.pop(stream.id, None)

    def stream_over(self, stream: TunnelStream, error: StreamLostError | None) -> None:
        """Tell the stream's sink, then the owner."""
        sink = stream.sink
        stream.sink = None
        if sink is not None:
            try:
                sink.connection_lost(error)
            except Exception:
                logger.exception("a sink raised from connection_lost")
        self._owner.stream_over(stream)

    def violated(self, detail: str, reason: str = CloseReason.PROTOCOL_ERROR) -> None:
        """The peer broke a rule of the dialect: end the tunnel, saying why."""
        if self._state is State.OPEN:
            self.session.go_away(GoAwayCode.PROTOCOL_ERROR)
            self._violated(detail, reason)

    def close(self, reason: str) -> None:
        """End the tunnel; see `common.tunnel.interfaces.Tunnel.close`."""
        if self._state is State.OPEN:
            for stream in self._streams.values():
                if not stream.is_control:
                    self.session.reset_stream(stream.id, ResetCode.SESSION_LOST)
            self.session.go_away(GoAwayCode.NORMAL)
            self._say_goodbye(reason, violation=False)
            self._lose(TunnelLostError(f"closed by this side: {reason}", reason=reason), State.CLOSING)

    def statistics(self, *, own_streams: int, streams_total: int, draining: bool) -> TunnelStatistics:
        """The counters, the dialect's own streams left out."""
        session = self.session.statistics()
        return TunnelStatistics(
            streams=len(self._streams) - own_streams,
            streams_total=streams_total,
            bytes_in=session.bytes_in,
            bytes_out=session.bytes_out,
            buffered=session.queued,
            rtt=session.rtt,
            last_received=self._last_received,
            draining=draining,
        )

    @property
    def last_received(self) -> float:
        """Moment of the last byte of the connection."""
        return self._last_received

    @property
    def stream_count(self) -> int:
        """Streams that are not over, the dialect's own among them."""
        return len(self._streams)

    # What the session tells.

    def _dispatch(self, events: list[Event], now: float) -> None:
        streams = self._streams
        for event in events:
            kind = type(event)
            if kind is DataReceived:
                stream = streams.get(event.stream_id)  # type: ignore[union-attr]
                if stream is not None:  # else reset by one of the callbacks before
                    stream.receive(event.data, now)  # type: ignore[union-attr]
            elif isinstance(event, StreamOpened):
                stream = streams[event.stream_id] = TunnelStream(self, event.stream_id, None)
                try:
                    self._owner.stream_opened(stream)
                except Exception:
                    logger.exception("a new stream could not be handled; it is reset")
                    stream.reset(ResetCode.INTERNAL)
            elif isinstance(event, StreamEnded):
                if (stream := streams.get(event.stream_id)) is not None:
                    stream.receive_eof()
            elif isinstance(event, StreamClosed):
                if (stream := streams.pop(event.stream_id, None)) is not None:
                    stream.detach()
                    self.stream_over(stream, None)
            elif isinstance(event, StreamReset):
                if (stream := streams.pop(event.stream_id, None)) is not None:
                    stream.detach()
                    self.stream_over(stream, _reset_error(event))
            elif isinstance(event, Drained):
                if (stream := streams.get(event.stream_id)) is not None:
                    stream.drained()
            elif isinstance(event, GoAwayReceived):
                self.call_later(self._owner.go_away_received)

    # Ends.

    def _link_ended(self, end: LinkEnd) -> None:
        # After a violation what still comes cannot be read: it is dropped until the peer hangs up, since closing a
        # connection that has unread bytes would reset it, and the peer might never read why (RFC 9293 section 3.10.4).
        state = State.FINISHED if end.by_peer else State.CLOSING
        if self._state is State.OPEN:
            reason = end.reason or CloseReason.CLOSED
            self._lose(TunnelLostError(end.detail, reason=reason, by_peer=end.by_peer), state)
        elif state is State.FINISHED:
            self._state = state

    def _violated(self, detail: str, reason: str = CloseReason.PROTOCOL_ERROR) -> None:
        self._say_goodbye(reason, violation=True)
        self._lose(TunnelLostError(detail, reason=reason), State.CLOSING)

    def _say_goodbye(self, reason: str, *, violation: bool) -> None:
        """Keep the last words: the session's resets and GoAway, what was said on the control stream just before (a
        Drain, perhaps), then the link's close.
        """
        final: list[Buffer] = []
        if self._link.has_output:
            final += self._link.control_to_send()
        buffers = self.session.data_to_send(_LAST_WORDS)
        if buffers:
            final += self._link.encode(buffers, sum(map(len, buffers)))
        self._link.close(reason, violation=violation)
        if self._link.has_output:
            final += self._link.control_to_send()
        self._final = final

    def _lose(self, error: TunnelLostError, state: State) -> None:
        """Leave OPEN: the session is over, every stream is lost."""
        self._state = state
        self.session.close()
        if state is State.CLOSING:
            self._close_deadline = self._clock() + self.config.close_timeout
            self.want_tick(self._close_deadline)
        streams = self._streams
        self._streams = {}
        for stream in streams.values():
            stream.detach()
            lost = StreamLostError(ResetCode.SESSION_LOST, f"the tunnel ended: {error.detail}")
            self.call_later(self.stream_over, stream, lost)
        self.call_later(self._tell_lost, error)

    def _tell_lost(self, error: TunnelLostError) -> None:
        """The last that the owner hears. It still asks this core what became of the tunnel, but is not held by it: what
        is over goes at once, with all that it holds, and not when the garbage collector comes by.
        """
        owner, self._owner = self._owner, NOBODY
        owner.tunnel_lost(error)


def _reset_error(event: StreamReset) -> StreamLostError:
    code = _RESET_CODES.get(event.code, ResetCode.CANCELLED)
    who = "by the peer" if event.by_peer else "because the peer broke its rules"
    return StreamLostError(code, f"the stream was reset {who}: {code.name.lower()}")
