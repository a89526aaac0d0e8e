"""One yamux session: bytes in, events out; calls in, bytes out. No I/O, no clock.

The caller hands what arrives to `receive_data` and works through the events; it writes what `data_to_send` returns
whenever `has_output` says so and the transport takes more, then asks `events()`; it calls `tick` at the moment that
`tick` last returned. Times are seconds of one monotonic clock, the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.yamux.config import Config, Role
from common.yamux.errors import (
    PeerDeadError,
    RemoteProtocolError,
    SessionClosedError,
    StreamNotOpenError,
)
from common.yamux.events import Buffer, Drained, Event, GoAwayCode
from common.yamux.frames import Flag, FrameType
from common.yamux.liveness import Liveness, Verdict
from common.yamux.receiver import Receiver
from common.yamux.scheduler import Scheduler
from common.yamux.states import SENDING_STATES, TRANSITIONS, StreamInput
from common.yamux.streams import StreamTable
from common.yamux.windows import MemoryBudget

__all__ = ["Session", "SessionStatistics"]

_DEFAULT_CONFIG = Config()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatistics:
    """A session's counters; sums since its start unless said otherwise."""

    streams: int
    """Live streams, now."""
    streams_opened: int
    """Opened by us."""
    streams_accepted: int
    """Opened by the peer."""
    streams_refused: int
    """Opened by the peer and reset at once, for a cap or after our GoAway."""
    pending_opens: int
    """Opened by us and not yet answered, now."""
    bytes_in: int
    """Payload bytes received on streams that existed."""
    bytes_out: int
    """Payload bytes handed out by `data_to_send`."""
    queued: int
    """Payload bytes that wait to be sent, now."""
    window_reserved: int
    """Bytes of receive window beyond 256 KiB a stream, now."""
    rtt: float | None
    """Seconds, the last measured round trip."""


class Session:
    """One side of a yamux connection.

    Args:
        role: which ids are ours.
        config: limits and timings.
        now: the time.
        budget: memory for window growth that this session shares with others of the process.
    """

    __slots__ = ("_budget", "_liveness", "_receiver", "_role", "_scheduler", "_streams", "_table")

    def __init__(
        self, role: Role, config: Config = _DEFAULT_CONFIG, *, now: float, budget: MemoryBudget | None = None
    ) -> None:
        self._role = role
        self._budget = MemoryBudget(config.session_window_budget, parent=budget)
        self._table = StreamTable(role, config, self._budget)
        self._streams = self._table.live
        self._scheduler = Scheduler(config, self._table)
        self._liveness = Liveness(config, now)
        self._receiver = Receiver(config, self._table, self._scheduler, self._liveness, now)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open" if self.may_open else "going away"
        return (
            f"<Session {self._role.name.lower()}, {state}: {len(self._streams)} streams, {self.total_buffered} queued>"
        )

    def heard(self, now: float) -> None:
        """A byte came of what carries the session, and perhaps none of the session's own: a peer that sends one lives.

        Args:
            now: the time.
        """
        self._liveness.heard = now

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Take bytes from the peer, cut anywhere.

        Args:
            data: must never be written again: events hold views of it.
            now: the time.

        Returns:
            What they mean, in order. `DataReceived` comes for every part of a frame as it arrives. After the session
            ended, always empty.

        Raises:
            RemoteProtocolError: the session is over. Its `events` are what came before the violation; a GoAway is
                queued. Nothing else is raised, whatever the bytes.
        """
        events: list[Event] = []
        if self._table.closed or not data:
            return events
        self._liveness.heard = now
        try:
            self._receiver.receive(data, now, events)
        except RemoteProtocolError as exc:
            self.close()
            self._scheduler.control(FrameType.GO_AWAY, 0, GoAwayCode.PROTOCOL_ERROR)
            exc.events = events
            raise
        return events

    def open_stream(self, now: float) -> int:
        """Open a stream; its SYN goes out with the next `data_to_send`, ahead of its data. Returns its id.

        Raises:
            SessionClosedError, GoneAwayError, TooManyStreamsError, TooManyPendingOpensError, StreamIdsExhaustedError:
                it cannot be opened; all are `LocalProtocolError`.
        """
        stream = self._table.open(now)
        stream.syn_pending = True
        self._scheduler.flag(stream)
        return stream.id

    def send_data(self, stream_id: int, data: Buffer) -> None:
        """Queue bytes on a stream, without limit: watch `buffered()`. The buffer must not be changed afterwards.

        Raises:
            StreamNotOpenError: no such stream, or `end_stream` was called.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.fin_pending or stream.state not in SENDING_STATES:
            raise StreamNotOpenError(f"stream {stream_id} is not open for sending")
        if type(data) is memoryview and data.format != "B":
            data = data.cast("B")
        if data:
            self._scheduler.push(stream, data)

    def buffered(self, stream_id: int) -> int:
        """Bytes queued on the stream and not yet handed out; 0 for a stream that is over."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.queued

    @property
    def total_buffered(self) -> int:
        """Bytes queued on all streams."""
        return self._scheduler.queued

    def notify_drained(self, stream_id: int, below: int) -> None:
        """Give a `Drained` event, once, as soon as `buffered(stream_id)` is at most `below` (a no-op for a stream that
        is over). The event comes from `events()`, also when it is so already.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.queued <= below:
            self._scheduler.events.append(Drained(stream_id))
        else:
            stream.drained_mark = below

    def end_stream(self, stream_id: int) -> None:
        """Half-close: a FIN follows the queued data.

        Raises:
            StreamNotOpenError: no such stream, or it was called before.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.fin_pending or stream.state not in SENDING_STATES:
            raise StreamNotOpenError(f"stream {stream_id} is not open for sending")
        self._scheduler.end(stream)

    def reset_stream(self, stream_id: int, code: int = 0) -> None:
        """End a stream in both directions; queued data is dropped, no event follows. A no-op for one that is over."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._table.advance(stream, StreamInput.SEND_RST)
            self._scheduler.reset(stream, code)

    def consumed(self, stream_id: int, n: int, now: float) -> None:
        """Say that `n` bytes of the stream's `DataReceived` are dealt with, so that the peer may send more.

        A no-op for a stream that is over.

        Raises:
            LocalProtocolError: more than was received.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        window = stream.receive_window
        if window.consumed(n) and StreamInput.SEND_WINDOW in TRANSITIONS[stream.state]:
            credit = window.grant(now, self._liveness.path_delay)
            if credit:  # a window that shrinks may keep all of it, and then there is nothing to send
                stream.credit_pending += credit
                self._scheduler.flag(stream)

    def data_to_send(self, limit: int) -> list[Buffer]:
        """What to write next: whole frames, control before data, streams in turn.

        Args:
            limit: bytes after which no further Data frame is begun; what is returned is at most one frame longer.

        Returns:
            Buffers to write in order, empty if there is nothing. They are never changed later. What is returned counts
            as sent: write it, or close the connection.
        """
        return self._scheduler.take(limit)

    @property
    def has_output(self) -> bool:
        """Whether `data_to_send` would return something."""
        return self._scheduler.has_output

    def events(self) -> list[Event]:
        """What our own calls brought about since last asked: `Drained`, and `StreamClosed` when our FIN was the last.

        Ask after `data_to_send` and after a turn of other calls; cheap when there is nothing.
        """
        events = self._scheduler.events
        if not events:
            return []
        self._scheduler.events = []
        # A stream may have been reset since; nothing is said of it any more.
        return [event for event in events if type(event) is not Drained or event.stream_id in self._streams]

    def ping(self, now: float) -> None:
        """Measure the round trip: a `Pong` event follows. A no-op while an earlier ping is not yet answered.

        Raises:
            SessionClosedError: the session is over.
        """
        if self._table.closed:
            raise SessionClosedError
        if not self._liveness.is_probing:
            self._scheduler.control(FrameType.PING, Flag.SYN, self._liveness.ping_sent(now))

    def tighten_liveness(self, probe_interval: float, dead_after: float) -> None:
        """Probe as early, and give up as early, as the peer says that it does, if that is earlier; seconds.

        `tick` is to be called next.
        """
        self._liveness.tighten(probe_interval, dead_after)

    def go_away(self, code: int = GoAwayCode.NORMAL) -> None:
        """Take no new streams from now on; those that are open go on. A no-op the second time."""
        if not (self._table.gone_away or self._table.closed):
            self._table.gone_away = True
            self._scheduler.control(FrameType.GO_AWAY, 0, code)

    def tick(self, now: float) -> float | None:
        """Do what time demands: probe a silent peer, find a dead one, give up memory that idles.

        Returns:
            When to call again, at the latest; None when the session is over. Calling earlier does no harm.

        Raises:
            PeerDeadError: not one byte for `dead_after` seconds; the session is over.
        """
        if self._table.closed:
            return None
        verdict = self._liveness.check(now)
        if verdict is Verdict.PROBE:
            self.ping(now)
        elif verdict is Verdict.DEAD:
            self.close()
            raise PeerDeadError(now - self._liveness.heard)
        return self._liveness.deadline

    def close(self) -> None:
        """The connection is gone, or is about to be: drop everything, give the memory back. A no-op the second time."""
        if not self._table.closed:
            for stream in self._table.close():
                self._scheduler.drop(stream)
            self._scheduler.urgent.clear()
            self._scheduler.events.clear()

    @property
    def is_closed(self) -> bool:
        """Whether the session is over: by `close`, a violation, or a dead peer."""
        return self._table.closed

    @property
    def may_open(self) -> bool:
        """Whether neither side sent GoAway and the session is not over."""
        table = self._table
        return not (table.gone_away or table.peer_gone_away or table.closed)

    @property
    def stream_count(self) -> int:
        """Live streams."""
        return len(self._streams)

    @property
    def rtt(self) -> float | None:
        """Seconds, the last measured round trip; None before the first."""
        return self._liveness.rtt

    def statistics(self) -> SessionStatistics:
        """The session's counters."""
        table = self._table
        return SessionStatistics(
            streams=len(self._streams),
            streams_opened=table.opened,
            streams_accepted=table.accepted,
            streams_refused=table.refused,
            pending_opens=table.pending_opens,
            bytes_in=self._receiver.bytes_in,
            bytes_out=self._scheduler.bytes_out,
            queued=self._scheduler.queued,
            window_reserved=self._budget.used,
            rtt=self._liveness.rtt,
        )
