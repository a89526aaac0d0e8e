"""Remembers what was made of some bytes, because the same heads come again and again: from a script that opens a
connection for each request, from a thousand copies of one program, from a service that answers alike.

What is remembered is shared between clients, and between devices. So that nobody gets anything from that but speed:

- A value is made of its key, of nothing else, and is never changed: two who send the same bytes would have been given
  equal values anyway. Nothing about a connection, an address or an identity is in it.
- A key is compared whole. It holds no credential and no cookie (`requests` cuts them out first), and a head with a
  field whose name sounds of a secret is not remembered at all (`sounds_secret`).
- Who asks and what they may do is no part of this: it is decided anew for each request.

Two generations. What is asked for again moves to the young one; at each `turn` the old one goes. So what nobody asks
for is gone after two turns, and no more is held than twice the bounds, however many different heads come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

__all__ = ["Memo", "sounds_secret"]

V = TypeVar("V")

_SECRET: Final = re.compile(
    rb"auth|cookie|credential|csrf|jwt|key|passw|password|private|secret|session|sign|ticket|token|xsrf"
    # These hold no secret as a rule, but what people would not like to lie about; or they differ each time.
    rb"|baggage|correlation|email|forwarded|referer|request-?id|trace|user(?!-agent)",
    re.IGNORECASE,
)

_HARMLESS: Final = frozenset((b"keep-alive", b"www-authenticate"))


def sounds_secret(names: Iterable[bytes]) -> bool:
    """Whether one of the field names is that of something which is not to be remembered beyond its request."""
    return any(_SECRET.search(name) is not None and name.lower() not in _HARMLESS for name in names)


class Memo(Generic[V]):
    """A bounded memory of values by the bytes that they were made of.

    Args:
        max_entries: of a generation; when it is full the generations turn.
        max_bytes: of a generation's keys; so too.
        max_key: bytes; longer ones are not remembered.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_entries", "_max_key", "_old", "_young")

    def __init__(self, *, max_entries: int = 512, max_bytes: int = 256 * 1024, max_key: int = 2048) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_key = max_key
        self._young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}
        self._bytes = 0
        """Of the young generation's keys."""

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def items(self) -> list[tuple[bytes, V]]:
        """All that is remembered."""
        return list({**self._old, **self._young}.items())

    def get(self, key: bytes) -> V | None:
        """What was remembered of `key`."""
        value = self._young.get(key)
        if value is None and self._old:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: bytes, value: V) -> None:
        """Remember `value`."""
        if len(key) > self._max_key:
            return
        if len(self._young) >= self._max_entries or self._bytes + len(key) > self._max_bytes:
            self.turn()
        self._young[key] = value
        self._bytes += len(key)

    def turn(self) -> None:
        """Forget what was not asked for since the last turn but one."""
        self._old = self._young
        self._young = {}
        self._bytes = 0
