"""The live streams of a session: their ids, their states, and the caps on their number."""

from __future__ import annotations

from collections import deque

from common.yamux.config import MAX_STREAM_ID, Config, Role
from common.yamux.errors import (
    GoneAwayError,
    SessionClosedError,
    StreamIdsExhaustedError,
    TooManyPendingOpensError,
    TooManyStreamsError,
)
from common.yamux.events import Buffer, ResetReason
from common.yamux.states import OPENING_STATES, TRANSITIONS, StreamInput, StreamState
from common.yamux.windows import MemoryBudget, ReceiveWindow, SendWindow

__all__ = ["NEVER", "Stream", "StreamTable"]

NEVER = -1
"""A mark that no count of bytes falls to."""


class Stream:
    """One stream: its state and windows, what waits to be sent on it, and where the scheduler has it."""

    __slots__ = (
        "ack_pending",
        "active",
        "burst",
        "credit_pending",
        "drained_mark",
        "fin_pending",
        "head",
        "id",
        "queued",
        "receive_window",
        "rest",
        "round",
        "send_window",
        "state",
        "syn_pending",
    )

    def __init__(self, stream_id: int, receive_window: ReceiveWindow) -> None:
        self.id = stream_id
        self.state = StreamState.IDLE
        self.receive_window = receive_window
        self.send_window = SendWindow()
        # What waits to be sent: mostly one buffer, so that a deque is only made for the second.
        self.head: Buffer | None = None
        self.rest: deque[Buffer] | None = None
        self.queued = 0
        """Bytes of head and rest."""
        self.fin_pending = False
        """A FIN is to follow what is queued."""
        self.drained_mark = NEVER
        self.syn_pending = False
        self.ack_pending = False
        self.credit_pending = 0
        self.active = False
        """In one of the scheduler's turns: there is something queued, and credit for it."""
        self.round = -1
        """The scheduler's round in which `burst` was counted."""
        self.burst = 0

    def __repr__(self) -> str:
        ending = " and FIN" if self.fin_pending else ""
        return (
            f"<Stream {self.id} {self.state.name}: {self.queued} queued{ending}, {self.send_window.available} to send, "
            f"{self.receive_window!r}>"
        )


class StreamTable:
    """The live streams.

    Args:
        role: which ids are ours.
        config: the caps.
        budget: the session's, for the growth of receive windows.
    """

    __slots__ = (
        "_budget",
        "_config",
        "_highest_peer_id",
        "_next_id",
        "accepted",
        "closed",
        "gone_away",
        "live",
        "opened",
        "peer_gone_away",
        "pending_acks",
        "pending_opens",
        "refused",
    )

    def __init__(self, role: Role, config: Config, budget: MemoryBudget) -> None:
        self._config = config
        self._budget = budget
        self._next_id = role.value
        self._highest_peer_id = 0
        self.live: dict[int, Stream] = {}
        self.closed = False
        """The session is over."""
        self.gone_away = False
        """We sent GoAway."""
        self.peer_gone_away = False
        self.pending_opens = 0
        """Streams that we opened and the peer has not answered."""
        self.pending_acks = 0
        """Streams that the peer opened and whose ACK has not left."""
        self.opened = 0
        self.accepted = 0
        self.refused = 0

    def open(self, now: float) -> Stream:
        """A stream of ours with the next id, OPENING.

        Raises:
            LocalProtocolError: a subclass that says why not.
        """
        if self.closed:
            raise SessionClosedError
        if self.gone_away or self.peer_gone_away:
            raise GoneAwayError("we sent GoAway" if self.gone_away else "the peer sent GoAway")
        if len(self.live) >= self._config.max_streams:
            raise TooManyStreamsError(f"the session holds {len(self.live)} streams, as many as it may")
        if self.pending_opens >= self._config.max_pending_opens:
            raise TooManyPendingOpensError(f"the peer has not answered {self.pending_opens} opens yet")
        stream_id = self._next_id
        if stream_id > MAX_STREAM_ID:
            raise StreamIdsExhaustedError(f"the session has opened {self.opened} streams; ids are not reused")
        self._next_id = stream_id + 2
        stream = self._add(stream_id, StreamInput.SEND_SYN, now)
        self.pending_opens += 1
        self.opened += 1
        return stream

    def is_peers(self, stream_id: int) -> bool:
        """Whether the peer may open a stream with that id."""
        return stream_id & 1 != self._next_id & 1

    def was_opened(self, stream_id: int) -> bool:
        """Whether there has been a stream with that id, as far as can be known without remembering each: the peer's
        opens may arrive out of order, so that of its ids all up to the highest count.
        """
        return stream_id <= self._highest_peer_id if self.is_peers(stream_id) else stream_id < self._next_id

    def accept(self, stream_id: int, now: float) -> Stream | ResetReason:
        """A stream of the peer's, OPEN, with its ACK pending; or the reason to refuse it. The id must be the peer's and
        not live.
        """
        self._highest_peer_id = max(self._highest_peer_id, stream_id)
        if self.gone_away:
            self.refused += 1
            return ResetReason.DRAINING
        if len(self.live) >= self._config.max_streams or self.pending_acks >= self._config.accept_backlog:
            self.refused += 1
            return ResetReason.LIMIT
        stream = self._add(stream_id, StreamInput.RECEIVE_SYN, now)
        stream.ack_pending = True
        self.pending_acks += 1
        self.accepted += 1
        return stream

    def advance(self, stream: Stream, what: StreamInput) -> bool:
        """Let it happen to the stream, if the table of states has it. A stream that is CLOSED by it is forgotten.

        Returns:
            False, and nothing changed, if the stream's state does not allow it.
        """
        before = stream.state
        after = TRANSITIONS[before].get(what)
        if after is None:
            return False
        if after is not before:
            stream.state = after
            if before in OPENING_STATES and after not in OPENING_STATES:
                self.pending_opens -= 1
            if after is StreamState.CLOSED:
                del self.live[stream.id]
                stream.receive_window.release()
                if stream.ack_pending:
                    stream.ack_pending = False
                    self.pending_acks -= 1
        return True

    def close(self) -> list[Stream]:
        """The session is over: forget every stream. Returns those that were live."""
        self.closed = True
        streams = list(self.live.values())
        for stream in streams:
            self.advance(stream, StreamInput.SEND_RST)
        return streams

    def _add(self, stream_id: int, what: StreamInput, now: float) -> Stream:
        config = self._config
        stream = Stream(stream_id, ReceiveWindow(config.initial_window, config.max_window, self._budget, now))
        stream.state = TRANSITIONS[StreamState.IDLE][what]
        self.live[stream_id] = stream
        return stream
