"""A link over WebSocket, from the byte after the opening handshake on (RFC 6455).

Data frames are read and written here, over `websockets.speedups.apply_mask`, because message edges mean nothing to the
tunnel: a payload is handed on as it arrives, however long its frame, so nothing is gathered and nothing is copied
beyond the unmasking. Measured against the library's own parser: 0.47 against 0.81 CPU seconds a GiB, and a fifth of the
memory of an idle connection.

Rules of RFC 6455 that are enforced on what the peer sends, by the close code that breaking them earns:

    1002  a reserved bit or opcode (5.2); a frame masked that must not be, or the reverse (5.1); a length not in its
          shortest form or over 2**63 - 1 (5.2); a control frame that is fragmented or over 125 bytes (5.5); a
          continuation of nothing, or a new message inside one (5.4); a close frame with a bad code (7.4)
    1003  a text message: there is nothing that it could mean here (7.4.1)
    1007  a close reason that is not UTF-8 (5.5.1)
    1008  more control frames or empty frames than the limit
    1009  a frame longer than the limit

A server's link keeps nothing of what it is given, since the unmasking makes bytes of their own: its caller may read
into one buffer again and again. A client's hands out views.

Sending is one binary message a call. The client masks each buffer of it in one pass, with the key turned to the
buffer's offset in the frame, so that a large payload is not first joined to its header.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from websockets.exceptions import ProtocolError
from websockets.frames import Close, CloseCode
from websockets.speedups import apply_mask

from common.tunnel.interfaces import CloseReason
from common.tunnel.link import LinkEnd
from common.tunnel.stream import Buffer
from common.yamux.limits import RateLimit

__all__ = ["Side", "WebSocketLink"]


class Side(IntEnum):
    """Which end of the WebSocket a link is: the client masks what it sends (RFC 6455 section 5.1)."""

    SERVER = 0
    CLIENT = 1


FIN: Final = 0x80
MASKED: Final = 0x80
CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

WHOLE_BINARY: Final = FIN | BINARY

MAX_CONTROL: Final = 125
"""Bytes of a control frame's payload (RFC 6455 section 5.5)."""
MAX_REASON: Final = MAX_CONTROL - 2
MAX_PONGS: Final = 2048
"""Bytes of pongs that wait for a peer that does not read; beyond, pings go unanswered (RFC 6455 section 5.5.3)."""
LONGEST_HEADER: Final = 14
"""Two bytes, a 64-bit length, a key."""
JOIN_BELOW: Final = 4096
"""Bytes of a message under which its pieces are joined: one buffer costs the kernel and the loop less than two, and
copying this much costs less than a microsecond."""
SLICE_BELOW: Final = 1024
"""Bytes of a payload under which a copy is cheaper than a memoryview, and does not hold on to the whole read."""
KEYS_AT_ONCE: Final = 64
"""Masking keys drawn from the kernel in one call. Each is used once (RFC 6455 sections 5.3 and 10.3)."""

# Where a violation leaves its reason; the detail goes into our own log only.
_REASONS: Final = {
    CloseCode.PROTOCOL_ERROR: CloseReason.PROTOCOL_ERROR,
    CloseCode.UNSUPPORTED_DATA: CloseReason.PROTOCOL_ERROR,
    CloseCode.INVALID_DATA: CloseReason.PROTOCOL_ERROR,
    CloseCode.POLICY_VIOLATION: CloseReason.LIMIT,
    CloseCode.MESSAGE_TOO_BIG: CloseReason.LIMIT,
}


class _ViolationError(Exception):
    """The peer broke a rule; never leaves this module."""

    def __init__(self, code: CloseCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class WebSocketLink:
    """See the module. Implements `common.tunnel.link.Link`.

    Args:
        side: which end this is.
        max_frame: bytes of the longest frame that the peer may send.
        frames_per_second: control frames and empty frames that the peer may send over time.
        frames_burst: how many of them at once.
    """

    __slots__ = (
        "_close_sent",
        "_control",
        "_end",
        "_fragmented",
        "_frame_limit",
        "_frames_burst",
        "_frames_per_second",
        "_header",
        "_is_client",
        "_key",
        "_keys",
        "_max_frame",
        "_opcode",
        "_out",
        "_remaining",
    )

    def __init__(
        self,
        side: Side,
        *,
        max_frame: int = 16 * 1024 * 1024,
        frames_per_second: float = 100.0,
        frames_burst: int = 1000,
    ) -> None:
        self._is_client = side is Side.CLIENT
        self._max_frame = max_frame
        self._frames_per_second = frames_per_second
        self._frames_burst = frames_burst
        self._frame_limit: RateLimit | None = None  # most peers never send what it counts
        self._end: LinkEnd | None = None
        self._close_sent = False
        self._out = b""
        self._keys = b""
        # The frame being read: what is left of its payload, its opcode, and its key turned to the next byte's offset.
        self._remaining = 0
        self._opcode = BINARY
        self._key = b""
        self._fragmented = False
        # An unfinished header, at most 13 bytes, and an unfinished control payload.
        self._header = b""
        self._control = b""

    def __repr__(self) -> str:
        side = "client" if self._is_client else "server"
        state = f"ended: {self._end.detail}" if self._end else "closing" if self._close_sent else "open"
        return f"<WebSocketLink {side} {state}>"

    @property
    def end(self) -> LinkEnd | None:
        return self._end

    @property
    def has_output(self) -> bool:
        return bool(self._out)

    # Receiving.

    def receive(self, data: bytes | memoryview, now: float) -> Sequence[Buffer]:
        pieces: list[Buffer] = []
        if self._end is None:
            try:
                self._read(data, now, pieces)
            except _ViolationError as violation:
                self._fail(violation)
        # What arrives after our own close is read, to find the peer's close in it, and dropped.
        return () if self._close_sent and self._end is None else pieces

    def _read(self, data: bytes | memoryview, now: float, pieces: list[Buffer]) -> None:
        position = 0
        end = len(data)
        remaining = self._remaining
        if remaining:
            position = min(remaining, end)
            self._payload(data, 0, position, pieces)
            self._remaining = remaining = remaining - position
            if not remaining and self._opcode >= CLOSE:
                self._finish_control()
                if self._end is not None:
                    return
        while position < end:
            if self._header or end - position < LONGEST_HEADER:
                position = self._slow_header(data, position, end, now)
                if self._header:
                    return
            else:
                position = self._read_header(data, position, now)
            remaining = self._remaining
            stop = position + remaining
            if stop > end:
                self._remaining = stop - end
                stop = end
            else:
                self._remaining = 0
            if stop > position:
                self._payload(data, position, stop, pieces)
                position = stop
            if not self._remaining and self._opcode >= CLOSE:
                self._finish_control()
                if self._end is not None:
                    return

    def _slow_header(self, data: bytes | memoryview, position: int, end: int, now: float) -> int:
        """Read a header that may be cut off, or whose start came with an earlier call. Leaves it in `_header` when it
        is not whole yet; returns the position after what was taken.
        """
        kept = len(self._header)
        header = self._header + bytes(data[position : position + LONGEST_HEADER - kept])
        if len(header) < 2 or len(header) < (size := _header_size(header[1])):
            # Wrong from its first byte on: say so now, not when the rest of it has come.
            self._check_first_bytes(header)
            self._header = header
            return end
        self._header = b""
        self._read_header(header.ljust(LONGEST_HEADER, b"\0"), 0, now)
        return position + size - kept

    def _read_header(self, data: bytes | memoryview, position: int, now: float) -> int:
        """Read the header at `position`, of which `LONGEST_HEADER` bytes are there; returns the position after it."""
        first = data[position]
        second = data[position + 1]
        length = second & 0x7F
        # The one header in nearly every frame: a whole binary message, masked as it must be.
        if first != WHOLE_BINARY or self._fragmented or (second < MASKED) is not self._is_client or not length:
            self._check_first_bytes(bytes(data[position : position + 2]))
            self._begin_frame(first, length, now)
        else:
            self._opcode = BINARY
        position += 2
        if length >= 126:
            if length == 126:
                length = data[position] << 8 | data[position + 1]
                position += 2
                if length < 126:
                    raise _ViolationError(CloseCode.PROTOCOL_ERROR, "a length not in its shortest form")
            else:
                length = int.from_bytes(data[position : position + 8], "big")
                position += 8
                if length < 0x10000 or length >= 1 << 63:
                    raise _ViolationError(CloseCode.PROTOCOL_ERROR, "a length not in its shortest form, or over 2**63")
                if length > self._max_frame:
                    raise _ViolationError(
                        CloseCode.MESSAGE_TOO_BIG, f"a frame of {length} bytes; the limit is {self._max_frame}"
                    )
        self._remaining = length
        if second >= MASKED:
            self._key = bytes(data[position : position + 4])
            position += 4
        return position

    def _check_first_bytes(self, header: bytes) -> None:
        """Check what the first one or two bytes of a header say."""
        if not header:
            return
        first = header[0]
        opcode = first & 0x0F
        if first & 0x70:
            raise _ViolationError(CloseCode.PROTOCOL_ERROR, "a reserved bit is set")
        if opcode == TEXT:
            raise _ViolationError(CloseCode.UNSUPPORTED_DATA, "a text message")
        if opcode not in (CONTINUATION, BINARY, CLOSE, PING, PONG):
            raise _ViolationError(CloseCode.PROTOCOL_ERROR, f"the reserved opcode {opcode}")
        if opcode >= CLOSE:
            if not first & FIN:
                raise _ViolationError(CloseCode.PROTOCOL_ERROR, "a fragmented control frame")
        elif (opcode == CONTINUATION) is not self._fragmented:
            what = "a new message inside one" if self._fragmented else "a continuation of nothing"
            raise _ViolationError(CloseCode.PROTOCOL_ERROR, what)
        if len(header) == 1:
            return
        second = header[1]
        if (second < MASKED) is not self._is_client:
            what = "a masked frame from a server" if self._is_client else "an unmasked frame from a client"
            raise _ViolationError(CloseCode.PROTOCOL_ERROR, what)
        if opcode >= CLOSE and second & 0x7F > MAX_CONTROL:
            raise _ViolationError(CloseCode.PROTOCOL_ERROR, "a control frame of more than 125 bytes")

    def _begin_frame(self, first: int, length: int, now: float) -> None:
        """Note a frame other than a whole binary message; count it if it carries nothing for the tunnel."""
        self._opcode = opcode = first & 0x0F
        if opcode < CLOSE:
            self._fragmented = not first & FIN
            if length:
                return
        if self._frame_limit is None:
            self._frame_limit = RateLimit(self._frames_per_second, self._frames_burst, now)
        if not self._frame_limit.take(now):
            raise _ViolationError(CloseCode.POLICY_VIOLATION, "too many control or empty frames")

    def _payload(self, data: bytes | memoryview, start: int, stop: int, pieces: list[Buffer]) -> None:
        """Hand on payload bytes of the current frame."""
        piece: Buffer
        size = stop - start
        if size == len(data):
            piece = data
        elif size < SLICE_BELOW:
            piece = data[start:stop]
        else:
            piece = memoryview(data)[start:stop]
        if not self._is_client:
            key = self._key
            piece = apply_mask(piece, key)
            if turn := size & 3:
                self._key = key[turn:] + key[:turn]
        if self._opcode >= CLOSE:
            self._control += bytes(piece)
        else:
            pieces.append(piece)

    def _finish_control(self) -> None:
        payload = self._control
        self._control = b""
        if self._opcode == PING:
            if not self._close_sent and len(self._out) < MAX_PONGS:
                self._out += self._frame(PONG, payload)
        elif self._opcode == CLOSE:
            self._receive_close(payload)
        # A pong answers nothing that we asked: liveness is yamux's.

    def _receive_close(self, payload: bytes) -> None:
        try:
            close = Close.parse(payload)
        except ProtocolError as exc:
            raise _ViolationError(CloseCode.PROTOCOL_ERROR, "a close frame with a bad code") from exc
        except UnicodeDecodeError as exc:
            raise _ViolationError(CloseCode.INVALID_DATA, "a close reason that is not UTF-8") from exc
        if not self._close_sent:
            # RFC 6455 section 5.5.1: answer with the code that came.
            self._close_sent = True
            self._out += self._frame(CLOSE, payload[:2])
        self._end = LinkEnd(
            detail=f"the peer closed the WebSocket with code {int(close.code)} {close.reason!r}",
            reason=close.reason,
            by_peer=True,
        )

    def _fail(self, violation: _ViolationError) -> None:
        reason = _REASONS[violation.code]
        self._end = LinkEnd(detail=f"the peer broke WebSocket: {violation.detail}", reason=reason, by_peer=False)
        self._send_close(violation.code, reason)

    # Sending.

    def encode(self, buffers: Sequence[Buffer], size: int) -> Sequence[Buffer]:
        header = self._data_header(size)
        if not self._is_client:
            if size < JOIN_BELOW:
                return (b"".join((header, *buffers)),)
            return (header, *buffers)
        keys = self._keys
        if not keys:
            keys = os.urandom(4 * KEYS_AT_ONCE)
        key = keys[:4]
        self._keys = keys[4:]
        if size < JOIN_BELOW:
            payload = buffers[0] if len(buffers) == 1 else b"".join(buffers)
            return (b"".join((header, key, apply_mask(payload, key))),)
        out: list[Buffer] = []
        lead = header + key
        for buffer in buffers:
            masked = apply_mask(buffer, key)
            if lead:
                if len(buffer) < JOIN_BELOW:
                    masked = lead + masked
                else:
                    out.append(lead)
                lead = b""
            out.append(masked)
            if turn := len(buffer) & 3:
                key = key[turn:] + key[:turn]
        return out

    def _data_header(self, size: int) -> bytes:
        mask = MASKED if self._is_client else 0
        if size < 126:
            return bytes((WHOLE_BINARY, mask | size))
        if size < 0x10000:
            return bytes((WHOLE_BINARY, mask | 126, size >> 8, size & 0xFF))
        return bytes((WHOLE_BINARY, mask | 127)) + size.to_bytes(8, "big")

    def _frame(self, opcode: int, payload: bytes) -> bytes:
        """A control frame."""
        if not self._is_client:
            return bytes((FIN | opcode, len(payload))) + payload
        key = os.urandom(4)
        return bytes((FIN | opcode, MASKED | len(payload))) + key + apply_mask(payload, key)

    def control_to_send(self) -> Sequence[Buffer]:
        out = self._out
        self._out = b""
        return (out,)

    def close(self, reason: str, *, violation: bool = False) -> None:
        if violation:
            code = CloseCode.PROTOCOL_ERROR
        elif reason == CloseReason.DRAINING:
            code = CloseCode.GOING_AWAY
        else:
            code = CloseCode.NORMAL_CLOSURE
        self._send_close(code, reason)

    def _send_close(self, code: CloseCode, reason: str) -> None:
        if self._close_sent:
            return
        self._close_sent = True
        payload = int(code).to_bytes(2, "big") + reason.encode("ascii", "replace")[:MAX_REASON]
        self._out += self._frame(CLOSE, payload)


def _header_size(second: int) -> int:
    length = second & 0x7F
    return 2 + (8 if length == 127 else 2 if length == 126 else 0) + (4 if second >= MASKED else 0)
