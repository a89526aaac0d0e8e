"""What is sent next: control before data, streams with little to send before bulk, and everyone in turn.

Frames are made when the transport takes them and not before, so that what is urgent never waits behind what was framed
earlier, and a reset stream's bytes are still here to be dropped.

Turns. Streams with something to send and credit for it are in one of two rows. A stream enters the row of the *fresh*,
which goes first; once it has sent a quantum (`Config.busy_frame`) in the current round, it belongs to *bulk*, where
each stream sends one quantum in turn. A round ends when the row of bulk has gone around once. So a short answer
overtakes a download, while a stream that keeps coming back with short pieces gets its quantum a round like any other
and starves nobody (the idea of FQ-CoDel, RFC 8290 section 4.2, with bytes instead of time).

How carefully frames are made, for peers that are less so: flags travel on WindowUpdates only. yamux-js drops the
payload of a SYN frame; hashicorp/yamux marks a stream as ended before it has stored the payload of the same frame, so
that its reader can miss it. Two header-only frames more a stream are cheap.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from common.yamux.config import Config
from common.yamux.events import Buffer, Drained, Event, StreamClosed
from common.yamux.frames import HEADER, WINDOW_UPDATE_WORD, Flag, FrameType, encode_header
from common.yamux.states import StreamInput, StreamState
from common.yamux.streams import NEVER, Stream, StreamTable

__all__ = ["Scheduler"]

_GATHER_BELOW = 4096
"""Bytes of payload below which copying beside its header is cheaper than one more buffer to write."""

_pack = HEADER.pack
_SYN = WINDOW_UPDATE_WORD | Flag.SYN.value
_ACK = WINDOW_UPDATE_WORD | Flag.ACK.value
_FIN = WINDOW_UPDATE_WORD | Flag.FIN.value
_RST = WINDOW_UPDATE_WORD | Flag.RST.value


class Scheduler:
    """Everything of one session that waits to be sent.

    Args:
        config: sizes of frames.
        table: the streams, told when a FIN leaves.
    """

    __slots__ = (
        "_bulk",
        "_busy_frame",
        "_flagged",
        "_fresh",
        "_max_frame",
        "_round",
        "_table",
        "_turns",
        "bytes_out",
        "events",
        "queued",
        "urgent",
    )

    def __init__(self, config: Config, table: StreamTable) -> None:
        self._table = table
        self._max_frame = config.max_frame
        self._busy_frame = config.busy_frame
        self.urgent = bytearray()
        """Frames that are ready: Ping, GoAway, RST."""
        # Ordered sets by id. Plain dicts, for they are small when empty and lose a reset stream at once.
        self._flagged: dict[int, Stream] = {}
        self._fresh: dict[int, Stream] = {}
        self._bulk: dict[int, Stream] = {}
        self._round = 0
        self._turns = 0
        self.queued = 0
        """Bytes queued on all streams."""
        self.bytes_out = 0
        """Payload bytes framed so far."""
        self.events: list[Event] = []

    @property
    def has_output(self) -> bool:
        """Whether `take` would return something."""
        return bool(self._fresh or self.urgent or self._flagged or self._bulk)

    # -- what is to be sent ------------------------------------------------------------------------------------------

    def push(self, stream: Stream, data: Buffer) -> None:
        """Queue bytes on a stream."""
        n = len(data)
        if stream.head is None:
            stream.head = data
        elif stream.rest is None:
            stream.rest = deque((data,))
        else:
            stream.rest.append(data)
        stream.queued += n
        self.queued += n
        if not stream.active and stream.send_window.available:
            self._activate(stream)

    def end(self, stream: Stream) -> None:
        """Let a FIN follow what the stream has queued."""
        stream.fin_pending = True
        if not stream.queued:
            self._flagged[stream.id] = stream

    def flag(self, stream: Stream) -> None:
        """The stream has a SYN, an ACK or credit to send."""
        self._flagged[stream.id] = stream

    def credited(self, stream: Stream) -> None:
        """The peer granted credit to the stream."""
        if stream.queued and not stream.active:
            self._activate(stream)

    def control(self, frame_type: FrameType, flags: int, length: int) -> None:
        """A frame of the session."""
        self.urgent += encode_header(frame_type, flags, 0, length)

    def refuse(self, stream_id: int, code: int) -> None:
        """A RST for a stream that does not exist here."""
        self.urgent += _pack(_RST, stream_id, code)

    def drop(self, stream: Stream) -> None:
        """The stream is over: forget what it has queued."""
        stream_id = stream.id
        self._flagged.pop(stream_id, None)
        if stream.active:
            stream.active = False
            if self._fresh.pop(stream_id, None) is None:
                del self._bulk[stream_id]
        self.queued -= stream.queued
        stream.queued = 0
        stream.head = stream.rest = None

    def reset(self, stream: Stream, code: int) -> None:
        """Drop the stream and tell the peer, unless the peer has not been told of the stream yet."""
        self.drop(stream)
        if not stream.syn_pending:
            self.urgent += _pack(_RST, stream.id, code)

    # -- what is sent ------------------------------------------------------------------------------------------------

    def take(self, limit: int) -> list[Buffer]:
        """The next frames: all control, and data until `limit` bytes are reached or passed by less than a frame."""
        parts: list[Buffer] = []
        size = 0
        if self.urgent:
            parts.append(self.urgent)
            size = len(self.urgent)
            self.urgent = bytearray()
        if self._flagged:
            size += self._take_flags(parts)
        fresh, bulk = self._fresh, self._bulk
        if not (fresh or bulk):
            return [b"".join(parts)] if parts else []

        out: list[Buffer] = []
        framed = 0
        if fresh:
            cap = self._busy_frame if len(fresh) + len(bulk) > 1 else self._max_frame
            done = 0
            for stream in fresh.values():
                if size >= limit:
                    break
                done += 1
                n = self._frame(stream, cap, parts, out)
                size += n
                framed += n
                stream.burst += n
                if stream.queued and stream.send_window.available:
                    bulk[stream.id] = stream
                else:
                    _rest(stream)
            if done == len(fresh):
                fresh.clear()
            else:
                for stream_id in list(islice(fresh, done)):
                    del fresh[stream_id]
        while bulk and size < limit:
            stream_id = next(iter(bulk))
            stream = bulk.pop(stream_id)
            if not self._turns:
                self._round += 1
                self._turns = len(bulk) + 1
            self._turns -= 1
            n = self._frame(stream, self._busy_frame if bulk else self._max_frame, parts, out)
            size += n
            framed += n
            if stream.round == self._round:
                stream.burst += n
            else:
                stream.round = self._round
                stream.burst = n
            if stream.queued and stream.send_window.available:
                bulk[stream_id] = stream
            else:
                _rest(stream)
        self.queued -= framed
        self.bytes_out += framed
        if parts:
            out.append(b"".join(parts))
        return out

    def _take_flags(self, parts: list[Buffer]) -> int:
        count = 0
        for stream in self._flagged.values():
            if stream.syn_pending:
                stream.syn_pending = False
                parts.append(_pack(_SYN, stream.id, stream.receive_window.initial_grant()))
                count += 1
            elif stream.ack_pending:
                stream.ack_pending = False
                self._table.pending_acks -= 1
                parts.append(_pack(_ACK, stream.id, stream.receive_window.initial_grant()))
                count += 1
            if stream.credit_pending:
                parts.append(_pack(WINDOW_UPDATE_WORD, stream.id, stream.credit_pending))
                stream.credit_pending = 0
                count += 1
            if stream.fin_pending and not stream.queued:
                self._finish(stream, parts)
                count += 1
        self._flagged.clear()
        return count * HEADER.size

    def _frame(self, stream: Stream, cap: int, parts: list[Buffer], out: list[Buffer]) -> int:
        """One Data frame of at most `cap` bytes, and the FIN if nothing is left. Returns the size of the payload."""
        window = stream.send_window
        queued = stream.queued
        n = min(queued, window.available, cap)
        window.available -= n
        stream.queued = left = queued - n
        parts.append(_pack(0, stream.id, n))
        head = stream.head
        assert head is not None
        if len(head) == n:
            rest = stream.rest
            stream.head = rest.popleft() if rest else None
            if n < _GATHER_BELOW:
                parts.append(head)
            else:
                out.append(b"".join(parts))
                parts.clear()
                out.append(head)
        else:
            self._gather(stream, head, n, parts, out)
        if left <= stream.drained_mark:
            stream.drained_mark = NEVER
            self.events.append(Drained(stream.id))
        if not left and stream.fin_pending:
            self._finish(stream, parts)
        return n

    def _gather(self, stream: Stream, head: Buffer, n: int, parts: list[Buffer], out: list[Buffer]) -> None:
        """Move `n` bytes from the queue to the output: a part of the first buffer, or of several."""
        rest = stream.rest
        while True:
            size = len(head)
            if size > n:
                view = memoryview(head)
                piece: Buffer = view[:n]
                stream.head = view[n:]
                size = n
            else:
                piece = head
                stream.head = rest.popleft() if rest else None
            if size < _GATHER_BELOW:
                parts.append(piece)
            else:
                out.append(b"".join(parts))
                parts.clear()
                out.append(piece)
            n -= size
            if not n:
                return
            assert stream.head is not None
            head = stream.head

    def _finish(self, stream: Stream, parts: list[Buffer]) -> None:
        stream.fin_pending = False
        parts.append(_pack(_FIN, stream.id, 0))
        self._table.advance(stream, StreamInput.SEND_FIN)
        if stream.state is StreamState.CLOSED:
            self.events.append(StreamClosed(stream.id))

    def _activate(self, stream: Stream) -> None:
        stream.active = True
        if stream.round != self._round:
            stream.round = self._round
            stream.burst = 0
        if stream.burst < self._busy_frame:
            self._fresh[stream.id] = stream
        else:
            self._bulk[stream.id] = stream


def _rest(stream: Stream) -> None:
    """The stream has nothing to send, or no credit for it: perhaps for long, so that what is left of a large buffer
    must not keep all of it.
    """
    stream.active = False
    head = stream.head
    if type(head) is memoryview and len(head) * 4 < len(head.obj):  # type: ignore[arg-type]
        stream.head = bytes(head)
