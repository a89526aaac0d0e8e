"""One yamux session: bytes in, events out; calls in, bytes out. No I/O, no clock.

The caller hands what arrives to `receive_data` and works through the events; it writes what `data_to_send` returns
whenever `has_output` says so and the transport takes more, then asks `events()`; it calls `tick` at the moment that
`tick` last returned. Times are seconds of one monotonic clock, the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.yamux.config import Config, Role
from common.yamux.events import Buffer, Event, GoAwayCode
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

    def __init__(
        self, role: Role, config: Config = _DEFAULT_CONFIG, *, now: float, budget: MemoryBudget | None = None
    ) -> None: ...

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
        raise NotImplementedError

    def open_stream(self, now: float) -> int:
        """Open a stream; its SYN goes out with the next `data_to_send`, ahead of its data. Returns its id.

        Raises:
            SessionClosedError, GoneAwayError, TooManyStreamsError, TooManyPendingOpensError, StreamIdsExhaustedError:
                it cannot be opened; all are `LocalProtocolError`.
        """
        raise NotImplementedError

    def send_data(self, stream_id: int, data: Buffer) -> None:
        """Queue bytes on a stream, without limit: watch `buffered()`. The buffer must not be changed afterwards.

        Raises:
            StreamNotOpenError: no such stream, or `end_stream` was called.
        """
        raise NotImplementedError

    def buffered(self, stream_id: int) -> int:
        """Bytes queued on the stream and not yet handed out; 0 for a stream that is over."""
        raise NotImplementedError

    @property
    def total_buffered(self) -> int:
        """Bytes queued on all streams."""
        raise NotImplementedError

    def notify_drained(self, stream_id: int, below: int) -> None:
        """Give a `Drained` event, once, as soon as `buffered(stream_id)` is at most `below` (a no-op for a stream that
        is over). The event comes from `events()`, also when it is so already.
        """
        raise NotImplementedError

    def end_stream(self, stream_id: int) -> None:
        """Half-close: a FIN follows the queued data.

        Raises:
            StreamNotOpenError: no such stream, or it was called before.
        """
        raise NotImplementedError

    def reset_stream(self, stream_id: int, code: int = 0) -> None:
        """End a stream in both directions; queued data is dropped, no event follows. A no-op for one that is over."""
        raise NotImplementedError

    def consumed(self, stream_id: int, n: int, now: float) -> None:
        """Say that `n` bytes of the stream's `DataReceived` are dealt with, so that the peer may send more.

        A no-op for a stream that is over.

        Raises:
            LocalProtocolError: more than was received.
        """
        raise NotImplementedError

    def data_to_send(self, limit: int) -> list[Buffer]:
        """What to write next: whole frames, control before data, streams in turn.

        Args:
            limit: bytes after which no further Data frame is begun; what is returned is at most one frame longer.

        Returns:
            Buffers to write in order, empty if there is nothing. They are never changed later. What is returned counts
            as sent: write it, or close the connection.
        """
        raise NotImplementedError

    @property
    def has_output(self) -> bool:
        """Whether `data_to_send` would return something."""
        raise NotImplementedError

    def events(self) -> list[Event]:
        """What our own calls brought about since the last time: `Drained`, and `StreamClosed` when our FIN was the last.

        Ask after `data_to_send` and after a turn of other calls; cheap when there is nothing.
        """
        raise NotImplementedError

    def ping(self, now: float) -> None:
        """Measure the round trip: a `Pong` event follows. A no-op while an earlier ping is not yet answered.

        Raises:
            SessionClosedError: the session is over.
        """
        raise NotImplementedError

    def go_away(self, code: int = GoAwayCode.NORMAL) -> None:
        """Take no new streams from now on; those that are open go on. A no-op the second time."""
        raise NotImplementedError

    def tick(self, now: float) -> float | None:
        """Do what time demands: probe a silent peer, find a dead one, give up memory that idles.

        Returns:
            When to call again, at the latest; None when the session is over. Calling earlier does no harm.

        Raises:
            PeerDeadError: not one byte for `dead_after` seconds; the session is over.
        """
        raise NotImplementedError

    def close(self) -> None:
        """The connection is gone, or is about to be: drop everything, give the memory back. A no-op the second time."""
        raise NotImplementedError

    @property
    def is_closed(self) -> bool:
        """Whether the session is over: by `close`, a violation, or a dead peer."""
        raise NotImplementedError

    @property
    def may_open(self) -> bool:
        """Whether neither side sent GoAway and the session is not over."""
        raise NotImplementedError

    @property
    def stream_count(self) -> int:
        """Live streams."""
        raise NotImplementedError

    @property
    def rtt(self) -> float | None:
        """Seconds, the last measured round trip; None before the first."""
        raise NotImplementedError

    def statistics(self) -> SessionStatistics:
        """The session's counters."""
        raise NotImplementedError
