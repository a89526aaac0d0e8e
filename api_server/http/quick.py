"""Answers that need no waiting, made before a request is anything but bytes.

A connection hands a head to a `QuickAnswers` when it is certain that nothing else is under way on it: the bytes are one
whole head, and all that came before were whole heads, too. Whatever is unusual about a request gives None, and the
request goes the way of all others, which decides everything anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["QuickAnswers", "is_whole_head", "plain_head"]

_PLAIN = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"authorization",
        b"connection",
        b"host",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-api-key",
    }
)
"""Fields that change nothing about how a GET is answered, but for who asks; `Connection` if it says keep-alive."""

_MAX_HEAD = 4096
"""Bytes; what is longer is unusual."""


class QuickAnswers(Protocol):
    """Answers some requests at once."""

    prefix: bytes
    """With which their heads begin."""

    def answer(self, head: bytes, address: str) -> bytes | None:
        """The whole response; None when it cannot be told here. Never blocks or raises.

        Args:
            head: bytes that begin with `prefix`, as they came.
            address: of the client, without the port.
        """
        ...


def is_whole_head(data: bytes) -> bool:
    """Whether bytes are one head of a GET and no part of anything else, so that what follows begins a request."""
    if not data.startswith(b"GET ") or not data.endswith(b"\r\n\r\n") or data.count(b"\r\n\r\n") != 1:
        return False
    lower = data.lower()
    return not any(field in lower for field in (b"\ncontent-length", b"\ntransfer-encoding", b"\nupgrade"))


def plain_head(head: bytes) -> tuple[bytes, Sequence[tuple[bytes, bytes]]] | None:
    """The target and the fields of a GET that has nothing unusual about it (RFC 9112); None for any other."""
    if len(head) > _MAX_HEAD or not head.endswith(b"\r\n\r\n") or not head.isascii() or b"\0" in head:
        return None
    first, *lines = head[:-4].split(b"\r\n")
    method, _, rest = first.partition(b" ")
    target, _, version = rest.partition(b" ")
    if method != b"GET" or version != b"HTTP/1.1" or any(each in b"\r\n\t" for each in first):
        return None
    fields = []
    seen: set[bytes] = set()
    for line in lines:
        name, colon, value = line.partition(b":")
        lower, value = name.lower(), value.strip(b" \t")
        if not colon or lower not in _PLAIN or lower in seen or b"\r" in value or b"\n" in value:
            return None
        if lower == b"connection" and value.lower() != b"keep-alive":
            return None
        seen.add(lower)
        fields.append((lower, value))
    return (target, fields) if b"host" in seen else None
