"""Finds the longest prefix of a path, in whole segments (G1).

A tree of dictionaries, one level a segment: a lookup takes as many steps as the path has segments that some prefix
has, however many prefixes there are. Putting in and taking out take as many.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from api_server.routing.prefixes import normal_path

__all__ = ["PrefixMatcher"]

V = TypeVar("V")


class _Node(Generic[V]):
    """What is known below one segment."""

    __slots__ = ("below", "value")

    def __init__(self) -> None:
        self.below: dict[bytes, _Node[V]] = {}
        self.value: V | None = None


class PrefixMatcher(Generic[V]):
    """A mapping of prefixes, in their normal form, to values."""

    __slots__ = ("_root", "_size")

    def __init__(self) -> None:
        self._root: _Node[V] = _Node()
        self._size = 0

    def __len__(self) -> int:
        """Prefixes in it."""
        return self._size

    def put(self, prefix: str, value: V) -> None:
        """Map a prefix, in the place of what was there."""
        node = self._root
        for segment in _segments(prefix):
            node = node.below.setdefault(segment, _Node())
        if node.value is None:
            self._size += 1
        node.value = value

    def get(self, prefix: str) -> V | None:
        """What that very prefix maps to."""
        way = self._way(prefix)
        return None if way is None else way[-1].value

    def remove(self, prefix: str) -> None:
        """Take a prefix out, if it is in."""
        way = self._way(prefix)
        if way is None or way[-1].value is None:
            return
        way[-1].value = None
        self._size -= 1
        for segment in reversed(_segments(prefix)):
            node = way.pop()
            if node.value is not None or node.below:
                break
            del way[-1].below[segment]

    def match(self, path: bytes) -> tuple[V, int] | None:
        """What the longest prefix of a path maps to, and how many of the path's bytes belong to the prefix.

        Args:
            path: checked by `gateway.paths.check_path`, still percent-encoded.
        """
        normal = normal_path(path)
        node = self._root
        found, end = node.value, 0
        start, length = 1, len(normal)
        while node.below:
            stop = normal.find(b"/", start)
            if stop < 0:
                stop = length
            step = node.below.get(normal[start:stop])
            if step is None:
                break
            if step.value is not None:
                found, end = step.value, stop
            node = step
            start = stop + 1
        if found is None:
            return None
        return found, end if normal is path else _end_of(path, normal.count(b"/", 0, end))

    def _way(self, prefix: str) -> list[_Node[V]] | None:
        """The nodes from the root to a prefix; None when they do not go so far."""
        way = [self._root]
        for segment in _segments(prefix):
            node = way[-1].below.get(segment)
            if node is None:
                return None
            way.append(node)
        return way


def _segments(prefix: str) -> list[bytes]:
    return [] if prefix == "/" else prefix.encode("ascii").split(b"/")[1:]


def _end_of(path: bytes, segments: int) -> int:
    """Where so many segments end. A slash is never escaped, so there are as many in every spelling of a path."""
    end = 0
    for _ in range(segments):
        end = path.find(b"/", end + 1)
        if end < 0:
            return len(path)
    return end
