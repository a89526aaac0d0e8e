"""How messages are written and read: u32 big-endian length, then a msgpack map with a `type`.

The length counts the map only and is capped before anything of the map is kept, so a reader holds at most the cap.
msgpack is the codec; msgspec checks the map against the message's struct.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgpack
import msgspec

from common.wire.errors import (
    InvalidMessageError,
    MessageTooLargeError,
    TruncatedMessageError,
    UnknownMessageError,
    UnsupportedVersionError,
)
from common.wire.messages import PROTOCOL_VERSION, DeviceHello, Message, MessageSet, RelayHello

__all__ = ["LENGTH_SIZE", "MAX_MESSAGE", "MessageReader", "decode", "encode"]

LENGTH_SIZE: Final = 4
MAX_MESSAGE: Final = 64 * 1024
"""Bytes of one message without its length. A hello with 256 services takes 20 KiB."""


def encode(message: Message, *, optional: bool = False) -> bytes:
    """The message as it goes on the wire, length included.

    Args:
        message: one of `common.wire.messages`.
        optional: mark it as one that a peer who does not know it ignores.

    Raises:
        MessageTooLargeError: it is longer than `MAX_MESSAGE`.
    """
    fields: dict[str, Any] = msgspec.to_builtins(message)
    fields["type"] = message.TYPE
    if optional:
        fields["optional"] = True
    body: bytes = msgpack.packb(fields)
    if len(body) > MAX_MESSAGE:
        raise MessageTooLargeError(f"a {message.TYPE!r} message of {len(body)} bytes; at most {MAX_MESSAGE} fit")
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


def decode(body: bytes | bytearray | memoryview, known: MessageSet) -> Message | None:
    """Read one message without its length.

    Args:
        body: the msgpack map, whole.
        known: the types that may come at this place.

    Returns:
        The message; None for one that is unknown and marked optional.

    Raises:
        InvalidMessageError: not msgpack, not a map, or not of the message's shape.
        UnknownMessageError: a type outside `known` that is not optional.
        UnsupportedVersionError: a hello of versions that we do not speak.
    """
    try:
        fields = msgpack.unpackb(body)
    # The unpacker's own errors, UnicodeDecodeError and its limits are ValueErrors; a map with an unhashable key is a
    # TypeError; what it cannot finish is an UnpackException.
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as exc:
        raise InvalidMessageError(f"{len(body)} bytes are not one msgpack value ({type(exc).__name__})") from exc
    if not isinstance(fields, dict):
        raise InvalidMessageError(f"a message is a map, not {type(fields).__name__}")
    name = fields.get("type")
    if not isinstance(name, str):
        raise InvalidMessageError("a message needs a text `type`")
    message_type = known.get(name)
    if message_type is None:
        if fields.get("optional") is True:
            return None
        raise UnknownMessageError(f"a mandatory message of a type that is not one of {sorted(known)}")
    try:
        message = msgspec.convert(fields, message_type)
    except msgspec.ValidationError as exc:
        raise InvalidMessageError(f"a {name!r} message is invalid: {exc}") from exc
    if isinstance(message, DeviceHello | RelayHello) and message.min_version > PROTOCOL_VERSION:
        raise UnsupportedVersionError(
            f"the peer speaks version {message.min_version} and newer, this side up to {PROTOCOL_VERSION}"
        )
    return message


class MessageReader:
    """Messages out of a byte stream that comes in pieces of any size.

    Args:
        known: the types that may come.
        limit: cap on one message, bytes.

    Holds at most `LENGTH_SIZE + limit` bytes of an unfinished message. After an error it must not be used again.
    """

    __slots__ = ("_buffer", "_known", "_limit")

    def __init__(self, known: MessageSet, limit: int = MAX_MESSAGE) -> None:
        self._known = known
        self._limit = limit
        self._buffer = bytearray()

    def receive(self, data: bytes | bytearray | memoryview) -> Iterator[Message]:
        """Feed bytes; yields each message that is complete, skipping ignored ones.

        The iterator must be used up before the next call, unless `take_rest` ends the reading.

        Raises:
            WireError: as `decode`, and `MessageTooLargeError` as soon as a length is over the limit.
        """
        self._buffer += data
        while (body := self._next_body()) is not None:
            message = decode(body, self._known)
            if message is not None:
                yield message

    def _next_body(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < LENGTH_SIZE:
            return None
        length = int.from_bytes(buffer[:LENGTH_SIZE], "big")
        if length > self._limit:
            raise MessageTooLargeError(f"a message of {length} bytes was announced; at most {self._limit} are read")
        end = LENGTH_SIZE + length
        if len(buffer) < end:
            return None
        body = bytes(memoryview(buffer)[LENGTH_SIZE:end])
        del buffer[:end]
        return body

    @property
    def buffered(self) -> int:
        """Bytes of the unfinished message that are held."""
        return len(self._buffer)

    def take_rest(self) -> bytes:
        """The bytes after the last message, given up by the reader: for a stream that turns into raw bytes."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def receive_eof(self) -> None:
        """Tell that the stream ended.

        Raises:
            TruncatedMessageError: it ended inside a message.
        """
        if self._buffer:
            raise TruncatedMessageError(f"the stream ended after {len(self._buffer)} bytes of a message")
