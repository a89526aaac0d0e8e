"""What the peer sends: bytes cut anywhere become events.

The input is a byte stream: a frame may come in any number of pieces, and a piece may hold any number of frames.
Payload is handed on as it arrives, as bytes if it is small against the input, which it would else keep alive, and
otherwise as a view of it.

`Receiver.receive` holds the one loop of this package that runs for every small message; the commonest frame, Data
without flags on a stream that may receive, whole in the input, is dealt with in it without a call.
"""

from __future__ import annotations

from common.yamux.config import Config
from common.yamux.errors import RemoteProtocolError, Violation
from common.yamux.events import (
    Buffer,
    DataReceived,
    Event,
    GoAwayReceived,
    Pong,
    ResetReason,
    StreamClosed,
    StreamEnded,
    StreamEstablished,
    StreamOpened,
    StreamReset,
)
from common.yamux.frames import HEADER, HEADER_SIZE, Flag, FrameType, Header, decode_header
from common.yamux.limits import RateLimit
from common.yamux.liveness import Liveness
from common.yamux.scheduler import Scheduler
from common.yamux.states import OPENING_STATES, RECEIVING_STATES, StreamInput, StreamState
from common.yamux.streams import Stream, StreamTable

__all__ = ["Receiver"]

_COPY_BELOW = 4096
"""Bytes of payload below which a copy costs no more than a view."""
_COPY_SHARE = 16
"""A payload smaller than this part of the input is copied, so that whoever keeps it keeps no more than 16 times its
size: else a peer whose stream nobody reads could pin a whole input for every byte of its window."""

_unpack = HEADER.unpack_from
_SYN, _FIN, _RST = Flag.SYN.value, Flag.FIN.value, Flag.RST.value


class Receiver:
    """The receiving side of one session.

    Args:
        config: the caps.
        table: the streams.
        scheduler: takes what the peer makes us answer, and learns of credit.
        liveness: takes the answers to pings.
        now: the time.
    """

    __slots__ = (
        "_control_limit",
        "_fin",
        "_left",
        "_live",
        "_liveness",
        "_max_control_queue",
        "_partial",
        "_ping_limit",
        "_scheduler",
        "_stream",
        "_table",
        "bytes_in",
    )

    def __init__(
        self, config: Config, table: StreamTable, scheduler: Scheduler, liveness: Liveness, now: float
    ) -> None:
        self._table = table
        self._live = table.live
        self._scheduler = scheduler
        self._liveness = liveness
        self._max_control_queue = config.max_control_queue
        self._control_limit = RateLimit(config.control_frames_per_second, config.control_frames_burst, now)
        self._ping_limit = RateLimit(config.pings_per_second, config.pings_burst, now)
        self._partial = b""
        """The beginning of a header."""
        self._left = 0
        """Bytes of the current frame's payload that are still to come."""
        self._stream: Stream | None = None
        """Where they go; None: they are discarded."""
        self._fin = False
        """The current frame ends the stream."""
        self.bytes_in = 0
        """Payload bytes handed on so far."""

    def receive(self, data: Buffer, now: float, events: list[Event]) -> None:
        """Read `data`, and append to `events` what it means.

        Raises:
            RemoteProtocolError: nothing more may be read.
        """
        if self._partial:
            data = self._partial + data  # seldom, and always after a short piece
            self._partial = b""
        # What is short, or of another kind, is made bytes, whose slices are the cheapest copies.
        size = len(data)
        if type(data) is not bytes:
            view = memoryview(data)
            if view.format != "B":
                view = view.cast("B")
                size = len(view)
            data = view.tobytes() if size < _COPY_BELOW else view
        position = 0
        if self._left:
            position = self._payload(data, 0, size, events)
        live = self._live
        append = events.append
        copy_below = _COPY_BELOW if size < _COPY_BELOW * _COPY_SHARE else size // _COPY_SHARE
        while size - position >= HEADER_SIZE:
            word, stream_id, length = _unpack(data, position)
            if not word and length:
                stream = live.get(stream_id)
                if stream is not None and stream.state in RECEIVING_STATES:
                    window = stream.receive_window
                    start = position + HEADER_SIZE
                    end = start + length
                    if end <= size and length <= window.available:
                        window.available -= length
                        self.bytes_in += length
                        if length < copy_below:
                            append(DataReceived(stream_id, bytes(data[start:end])))
                        else:
                            append(DataReceived(stream_id, memoryview(data)[start:end]))
                        position = end
                        continue
            header = decode_header(data, position)
            position += HEADER_SIZE
            if header.type is FrameType.DATA:
                self._data(header, now, events)
                if self._left:
                    position = self._payload(data, position, size, events)
            else:
                self._control(header, now, events)
        if position < size:
            self._partial = bytes(data[position:])

    # -- payload -----------------------------------------------------------------------------------------------------

    def _payload(self, data: bytes | memoryview, position: int, size: int, events: list[Event]) -> int:
        """Hand on what there is of the current frame's payload. Returns where the next frame begins."""
        n = min(size - position, self._left)
        end = position + n
        self._left -= n
        stream = self._stream
        if stream is None:
            return end
        if stream.state is StreamState.CLOSED:  # we reset it in the middle of the frame
            self._stream = None
            return end
        if n:
            stream.receive_window.available -= n
            self.bytes_in += n
            piece = memoryview(data)[position:end]
            small = n < _COPY_BELOW or n * _COPY_SHARE < size
            events.append(DataReceived(stream.id, piece.tobytes() if small else piece))
        if not self._left:
            self._stream = None
            if self._fin:
                self._ended(stream, events)
        return end

    # -- frames ------------------------------------------------------------------------------------------------------

    def _data(self, header: Header, now: float, events: list[Event]) -> None:
        length = header.length
        if not length:
            self._count(now)
        self._left = length
        self._stream = None
        stream = self._find(header, now, events)
        if stream is None:
            return
        if header.flags & _RST:
            self._reset_by_peer(stream, ResetReason.CANCELLED, events)
        elif not self._advance(stream, StreamInput.RECEIVE_DATA, events):
            self._reset(stream, ResetReason.PROTOCOL, events)
        elif length > stream.receive_window.available:
            self._reset(stream, ResetReason.FLOW_CONTROL, events)
        elif length:
            self._stream = stream
            self._fin = bool(header.flags & _FIN)
        elif header.flags & _FIN:
            self._ended(stream, events)

    def _control(self, header: Header, now: float, events: list[Event]) -> None:
        self._count(now)
        if header.type is FrameType.WINDOW_UPDATE:
            stream = self._find(header, now, events)
            if stream is not None:
                self._window_update(stream, header, events)
        elif header.type is FrameType.GO_AWAY:
            self._table.peer_gone_away = True
            events.append(GoAwayReceived(header.length))
        elif header.flags & _SYN:
            if not self._ping_limit.take(now):
                raise RemoteProtocolError(Violation.PING_FLOOD, "pings come faster than they may")
            self._scheduler.control(FrameType.PING, Flag.ACK, header.length)
            self._check_queue()
        else:
            rtt = self._liveness.pong_received(header.length, now)
            if rtt is not None:
                events.append(Pong(rtt))

    def _window_update(self, stream: Stream, header: Header, events: list[Event]) -> None:
        if header.flags & _RST:
            self._reset_by_peer(stream, header.length, events)
            return
        self._advance(stream, StreamInput.RECEIVE_WINDOW, events)
        if not stream.send_window.granted(header.length):
            self._reset(stream, ResetReason.FLOW_CONTROL, events)
            return
        self._scheduler.credited(stream)
        if header.flags & _FIN:
            self._ended(stream, events)

    # -- streams -----------------------------------------------------------------------------------------------------

    def _find(self, header: Header, now: float, events: list[Event]) -> Stream | None:
        """The stream of a Data or WindowUpdate; None if the frame means nothing here."""
        stream = self._table.live.get(header.stream_id)
        if header.flags & _SYN:
            if stream is None:
                return self._accept(header, now, events)
            self._reset(stream, ResetReason.PROTOCOL, events)
            return None
        if stream is None and not header.flags & _RST and not self._table.was_opened(header.stream_id):
            raise RemoteProtocolError(
                Violation.BAD_STREAM_ID, f"a {header.type.name} on stream {header.stream_id}, never opened"
            )
        return stream

    def _accept(self, header: Header, now: float, events: list[Event]) -> Stream | None:
        stream_id = header.stream_id
        if not self._table.is_peers(stream_id):
            raise RemoteProtocolError(
                Violation.BAD_STREAM_ID, f"a SYN for stream {stream_id}, an id that is ours to open"
            )
        stream = self._table.accept(stream_id, now)
        if isinstance(stream, ResetReason):
            self._scheduler.refuse(stream_id, stream)
            self._check_queue()
            return None
        self._scheduler.flag(stream)
        events.append(StreamOpened(stream_id))
        return stream

    def _advance(self, stream: Stream, what: StreamInput, events: list[Event]) -> bool:
        opening = stream.state in OPENING_STATES
        if not self._table.advance(stream, what):
            return False
        if opening:
            events.append(StreamEstablished(stream.id))
        return True

    def _ended(self, stream: Stream, events: list[Event]) -> None:
        if not self._advance(stream, StreamInput.RECEIVE_FIN, events):
            self._reset(stream, ResetReason.PROTOCOL, events)
            return
        events.append(StreamEnded(stream.id))
        if stream.state is StreamState.CLOSED:
            self._scheduler.drop(stream)
            events.append(StreamClosed(stream.id))

    def _reset_by_peer(self, stream: Stream, code: int, events: list[Event]) -> None:
        self._table.advance(stream, StreamInput.RECEIVE_RST)
        self._scheduler.drop(stream)
        events.append(StreamReset(stream.id, code, by_peer=True))

    def _reset(self, stream: Stream, reason: ResetReason, events: list[Event]) -> None:
        """The peer did wrong on this stream: end it, and let the session live."""
        self._table.advance(stream, StreamInput.SEND_RST)
        self._scheduler.reset(stream, reason)
        events.append(StreamReset(stream.id, reason, by_peer=False))
        self._check_queue()

    # -- caps --------------------------------------------------------------------------------------------------------

    def _count(self, now: float) -> None:
        if not self._control_limit.take(now):
            raise RemoteProtocolError(Violation.CONTROL_FLOOD, "frames without payload come faster than they may")

    def _check_queue(self) -> None:
        if len(self._scheduler.urgent) > self._max_control_queue:
            raise RemoteProtocolError(
                Violation.CONTROL_QUEUE_FULL,
                f"{len(self._scheduler.urgent)} bytes of answers wait for the peer to read",
            )
