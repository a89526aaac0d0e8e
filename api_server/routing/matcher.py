"""Finds the longest prefix of a path, in whole segments (G1).

One dictionary of all prefixes: a lookup asks it once for each segment that the path has, the longest beginning first,
and for no more than the longest prefix has; however many prefixes there are. A tree with a level a segment takes as
many steps, each of them into another part of memory, which is what costs when there are many.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

from api_server.routing.prefixes import normal_path

__all__ = ["PrefixMatcher"]

V = TypeVar("V")


class PrefixMatcher(Generic[V]):
    """A mapping of prefixes, in their normal form, to values."""

    __slots__ = ("_deepest", "_depths", "_values")

    def __init__(self) -> None:
        self._values: dict[bytes, V] = {}
        self._depths: Counter[int] = Counter()
        """How many prefixes have so many segments."""
        self._deepest = 0

    def __len__(self) -> int:
        """Prefixes in it."""
        return len(self._values)

    def put(self, prefix: str, value: V) -> None:
        """Map a prefix, in the place of what was there."""
        key = _key(prefix)
        if key not in self._values:
            depth = key.count(b"/")
            self._depths[depth] += 1
            self._deepest = max(self._deepest, depth)
        self._values[key] = value

    def get(self, prefix: str) -> V | None:
        """What that very prefix maps to."""
        return self._values.get(_key(prefix))

    def remove(self, prefix: str) -> None:
        """Take a prefix out, if it is in."""
        key = _key(prefix)
        if key in self._values:
            del self._values[key]
            depth = key.count(b"/")
            self._depths[depth] -= 1
            if not self._depths[depth]:
                del self._depths[depth]
                self._deepest = max(self._depths, default=0)

    def match(self, path: bytes) -> tuple[V, int] | None:
        """What the longest prefix of a path maps to, and how many of the path's bytes belong to the prefix.

        Args:
            path: checked by `gateway.paths.check_path`, still percent-encoded.
        """
        normal = path if b"%" not in path else normal_path(path)
        ends: list[int] = []
        end = 0
        for _ in range(self._deepest):
            end = normal.find(b"/", end + 1)
            if end < 0:
                ends.append(len(normal))
                break
            ends.append(end)
        values = self._values
        value: V | None
        while ends:
            end = ends.pop()
            value = values.get(normal[:end])
            if value is not None:
                return value, end if normal is path else _end_of(path, normal.count(b"/", 0, end))
        value = values.get(b"")
        return None if value is None else (value, 0)


def _key(prefix: str) -> bytes:
    return b"" if prefix == "/" else prefix.encode("ascii")


def _end_of(path: bytes, segments: int) -> int:
    """Where so many segments end. A slash is never escaped, so there are as many in every spelling of a path."""
    end = 0
    for _ in range(segments):
        end = path.find(b"/", end + 1)
        if end < 0:
            return len(path)
    return end
