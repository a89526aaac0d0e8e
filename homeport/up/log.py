"""What the supervised processes say, line by line, each with the name of who said it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import TextIO

__all__ = ["LineSplitter", "LogPrinter"]

_MAX_LINE = 16 * 1024
"""Characters; a longer line is shown in pieces."""

_COLOURS = ("36", "32", "35", "33", "34")
"""ANSI: cyan, green, magenta, yellow, blue."""

# What a device or a client sent may be quoted in a log line; it shall not move the cursor or ring the bell.
_HARMLESS = dict.fromkeys((*range(32), 127, *range(128, 160)), "�")
del _HARMLESS[ord("\t")]


class LineSplitter:
    """Bytes in any pieces into lines of text."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode("utf-8", "replace").rstrip("\r") for line in lines]

    def finish(self) -> list[str]:
        """The last line, if it had no end."""
        rest, self._rest = self._rest, b""
        return [rest.decode("utf-8", "replace")] if rest else []


class LogPrinter:
    """Writes lines with a prefix, and remembers the last ones of each source.

    Args:
        output: usually standard error.
        names: of the sources, for the width of the prefix and its colours.
        colour: whether to use them.
        kept: lines remembered of each source.
    """

    def __init__(self, output: TextIO, names: Sequence[str], *, colour: bool, kept: int = 20) -> None:
        self._output = output
        self._width = max(map(len, names))
        self._colours = dict(zip(names, _COLOURS * len(names), strict=False)) if colour else {}
        self._last: dict[str, deque[str]] = {name: deque(maxlen=kept) for name in names}

    def line(self, name: str, text: str) -> None:
        """One line of a source."""
        harmless = text.translate(_HARMLESS)
        self._last[name].append(harmless)
        prefix = f"{name:{self._width}} |"
        if name in self._colours:
            prefix = f"\x1b[{self._colours[name]}m{prefix}\x1b[0m"
        with contextlib.suppress(OSError):  # a terminal that was closed, `| head`: no reason to stop a supervisor
            self._output.write(f"{prefix} {harmless}\n")
            self._output.flush()

    def last_lines(self, name: str) -> list[str]:
        """What the source said last."""
        return list(self._last[name])
