"""The bodies of internal HTTP: msgpack, or JSON for a person who asks for it."""

from __future__ import annotations

from typing import Any, TypeVar

import msgpack
import msgspec

from common.errors import HomeportError
from remote_proxy.errors import BadRequestError

__all__ = ["JSON", "MSGPACK", "PROBLEM_JSON", "Codec", "codec_for", "decode"]

MSGPACK = "application/msgpack"
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"

T = TypeVar("T")


class Codec:
    """One way to write a body."""

    __slots__ = ("content_type", "problem_type")

    def __init__(self, content_type: str, problem_type: str) -> None:
        self.content_type = content_type
        self.problem_type = problem_type

    def encode(self, value: object) -> bytes:
        """The body that says `value`, which msgspec knows how to serialise."""
        if self.content_type == JSON:
            return msgspec.json.encode(value)
        packed: bytes = msgpack.packb(msgspec.to_builtins(value))
        return packed

    def encode_problem(self, error: HomeportError) -> bytes:
        """The problem object of `error` (RFC 9457 section 3)."""
        return self.encode(error.problem())


_MSGPACK = Codec(MSGPACK, MSGPACK)
_JSON = Codec(JSON, PROBLEM_JSON)


def codec_for(accept: str) -> Codec:
    """The codec for an `Accept` header: JSON when it names JSON and not msgpack, else msgpack.

    Quality values are not weighed: the callers are our own, and a person with curl.
    """
    return _JSON if JSON in accept and MSGPACK not in accept else _MSGPACK


def decode(body: bytes, content_type: str, type_: type[T]) -> T:
    """The value that a request body holds.

    Args:
        body: at most what the server lets in; msgpack's own limits follow from its length.
        content_type: without parameters; empty counts as msgpack.
        type_: what it must be.

    Raises:
        BadRequestError: the body is not that.
    """
    try:
        if content_type == JSON:
            return msgspec.json.decode(body, type=type_)
        value: Any = msgpack.unpackb(body)
        return msgspec.convert(value, type_)
    except (msgspec.ValidationError, ValueError, RecursionError, msgpack.UnpackException) as exc:
        detail = str(exc) if isinstance(exc, msgspec.ValidationError) else f"the body is not {content_type or MSGPACK}"
        raise BadRequestError(detail) from exc
