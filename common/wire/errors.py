"""Errors of the messages between agent and relay.

HomeportError
└── WireError                        the peer's bytes are no message of ours
    ├── MessageTooLargeError         its length is over the cap; nothing of it was kept
    ├── TruncatedMessageError        the stream ended inside a message
    ├── InvalidMessageError          not msgpack, not a map, a field missing or of another type or out of range
    ├── UnknownMessageError          a type that we do not know, and that is not marked optional
    └── UnsupportedVersionError      the peer speaks only versions that we do not

Each is the peer's fault, except `MessageTooLargeError` out of `encode`, which is ours. Details quote lengths, names of
fields and types, and never a value that the peer sent.
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "InvalidMessageError",
    "MessageTooLargeError",
    "TruncatedMessageError",
    "UnknownMessageError",
    "UnsupportedVersionError",
    "WireError",
]


class WireError(HomeportError):
    """Base of the errors of messages."""

    code: ClassVar[str] = "wire_error"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "A message of the tunnel could not be read"


class MessageTooLargeError(WireError):
    """A message is longer than the cap."""

    code: ClassVar[str] = "wire_message_too_large"
    title: ClassVar[str] = "A message of the tunnel is too large"


class TruncatedMessageError(WireError):
    """The stream ended inside a message."""

    code: ClassVar[str] = "wire_message_truncated"
    title: ClassVar[str] = "A message of the tunnel was cut off"


class InvalidMessageError(WireError):
    """The bytes are not msgpack, or the map is not of the message's shape."""

    code: ClassVar[str] = "wire_message_invalid"
    title: ClassVar[str] = "A message of the tunnel is invalid"


class UnknownMessageError(WireError):
    """A message type that we do not know and may not ignore."""

    code: ClassVar[str] = "wire_message_unknown"
    title: ClassVar[str] = "A message of the tunnel is of an unknown type"


class UnsupportedVersionError(WireError):
    """The peer speaks no version that we speak."""

    code: ClassVar[str] = "wire_version_unsupported"
    title: ClassVar[str] = "The peer's version is not supported"
