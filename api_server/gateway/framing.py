"""Where a body ends. Sans-I/O: bytes in, the bytes to pass on out, uncopied.

A body is passed on as it is framed. Its bytes are looked at only where the framing is, and go on as slices of what was
received; what is looked at is taken strictly (RFC 9112 section 7.1), because the next reader may be lenient in another
way. What has no meaning between two hops is left out: chunk extensions, and trailer fields that must not be there.

    feed(data, at, out)     appends to `out` what goes on; returns where in `data` this body ends
    complete                the body is over; what follows is the next message
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, Protocol

from api_server.gateway.fields import FieldKind, MalformedError, join_fields, kind_of, read_response_fields
from common.tunnel.stream import Buffer

__all__ = ["Body", "ChunkedBody", "EmptyBody", "LengthBody", "UntilClose"]

_MAX_LINE: Final = 4 * 1024
"""Bytes of a line: the size of a chunk with its extensions, which nobody uses but attackers, or a trailer field."""

_MAX_TRAILERS: Final = 16 * 1024
"""Bytes of a trailer section."""

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})([ \t]*;[\t -~\x80-\xff]{0,200})?\r\n")
"""The size, of 60 bits at most so that no reader overflows, and extensions (RFC 9112 section 7.1.1); blanks before the
semicolon are "bad whitespace", which is to be accepted."""


class Body(Protocol):
    """A body that is being received."""

    @property
    def complete(self) -> bool:
        """Whether its last byte was fed."""
        ...

    @property
    def bounded(self) -> bool:
        """Whether it says itself where it ends; else the end of the connection is its end."""
        ...

    def feed(self, data: bytes, at: int, out: list[Buffer]) -> int:
        """Take bytes.

        Args:
            data: what was received.
            at: where in it the body begins, or goes on.
            out: gets what goes on, in order.

        Returns:
            Where in `data` the body ends: its length, unless the body is complete.

        Raises:
            MalformedError: the framing is broken. What was appended to `out` before is good.
        """
        ...


class EmptyBody:
    """No body at all."""

    __slots__ = ()

    complete: Final = True
    bounded: Final = True

    def feed(self, data: bytes, at: int, out: list[Buffer]) -> int:  # noqa: ARG002
        return at


class LengthBody:
    """A body of as many bytes as `Content-Length` said (RFC 9112 section 6.2)."""

    __slots__ = ("remaining",)

    bounded: Final = True

    def __init__(self, length: int) -> None:
        self.remaining = length

    @property
    def complete(self) -> bool:
        return self.remaining == 0

    def feed(self, data: bytes, at: int, out: list[Buffer]) -> int:
        end = min(at + self.remaining, len(data))
        self.remaining -= end - at
        _pass_on(data, at, end, out)
        return end


class UntilClose:
    """A response body that ends when the service closes (RFC 9112 section 6.3, case 8)."""

    __slots__ = ()

    complete: Final = False
    bounded: Final = False

    def feed(self, data: bytes, at: int, out: list[Buffer]) -> int:
        _pass_on(data, at, len(data), out)
        return len(data)


class _State(Enum):
    """What comes next in a chunked body."""

    SIZE = "a line with the size of a chunk"
    DATA = "bytes of the chunk"
    END = "the line end behind the chunk"
    TRAILERS = "trailer fields, up to the empty line"
    OVER = "nothing"


class ChunkedBody:
    """A body in chunks (RFC 9112 section 7.1).

    Args:
        decode: hand on the data without the framing, for a client that does not know chunks.
    """

    __slots__ = ("_decode", "_line", "_remaining", "_state", "_trailers", "hides")

    bounded: Final = True

    def __init__(self, *, decode: bool = False) -> None:
        self._decode = decode
        self._state = _State.SIZE
        self._remaining = 0
        self._line = b""
        """The part that has come of a line; it goes on when the line is whole and good."""
        self._trailers = b""
        self.hides: re.Pattern[bytes] | None = None
        """Matches trailer fields that do not go on, beside those that must not be there."""

    @property
    def complete(self) -> bool:
        return self._state is _State.OVER

    def feed(self, data: bytes, at: int, out: list[Buffer]) -> int:
        # Bytes from `start` to `at` go on as one slice, over any number of chunks, cut where something is left out.
        size = len(data)
        start = at
        try:
            while at < size and self._state is not _State.OVER:
                if self._state is _State.DATA:
                    step = min(self._remaining, size - at)
                    if self._decode:
                        _pass_on(data, at, at + step, out)
                    at += step
                    self._remaining -= step
                    if self._remaining == 0:
                        self._state = _State.END
                    continue
                end = data.find(b"\n", at) + 1
                line = self._line + (data[at:end] if end else data[at:])
                if len(line) > _MAX_LINE:
                    raise MalformedError("a line of the chunked framing has no end")
                if not end:
                    self._cut(data, start, at, out)
                    self._line = line
                    start = at = size
                    break
                goes_on = self._line_received(line)
                if goes_on != line or self._line or self._decode:
                    self._cut(data, start, at, out)
                    start = end
                    if goes_on and not self._decode:
                        out.append(goes_on)
                    self._line = b""
                at = end
        finally:
            self._cut(data, start, at, out)
        return at

    def _cut(self, data: bytes, start: int, at: int, out: list[Buffer]) -> None:
        if not self._decode:
            _pass_on(data, start, at, out)

    def _line_received(self, line: bytes) -> bytes:
        """Take a whole line of the framing; returns what goes on of it."""
        if self._state is _State.SIZE:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise MalformedError("not the size of a chunk")
            self._remaining = int(match[1], 16)
            self._state = _State.DATA if self._remaining else _State.TRAILERS
            return line if not match[2] else match[1] + b"\r\n"
        if self._state is _State.END:
            if line != b"\r\n":
                raise MalformedError("a chunk is longer than its size says")
            self._state = _State.SIZE
            return line
        self._trailers += line
        if line != b"\r\n":
            if len(self._trailers) > _MAX_TRAILERS:
                raise MalformedError("too many trailer fields")
            return b""
        trailers = self._trailers
        goes_on = line if trailers == line else _clean_trailers(trailers)
        if self.hides is not None:
            goes_on = self.hides.sub(b"", goes_on)
        self._state = _State.OVER
        return goes_on


def _pass_on(data: bytes, start: int, end: int, out: list[Buffer]) -> None:
    """Append a part of `data`, uncopied."""
    if end > start:
        out.append(data if end - start == len(data) else memoryview(data)[start:end])


def _clean_trailers(section: bytes) -> bytes:
    """A trailer section, empty line included, without what must not be in one: fields that route, frame or authenticate
    (RFC 9110 section 6.5.1). A reader that merges trailers into the head would take them for what was checked there.
    """
    fields = read_response_fields(b"HTTP/1.1 200 OK\r\n" + section)
    kept = [(name, value.strip(b" \t")) for name, value in fields if kind_of(name) is FieldKind.PLAIN]
    return join_fields(kept) + b"\r\n"
