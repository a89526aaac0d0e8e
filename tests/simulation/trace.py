"""What happened in a simulation, line by line, and a hash by which two runs are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, cast

import trio

from common.logging import Logger

__all__ = ["Trace", "TraceLogger"]

_RANDOM_FIELDS = frozenset({"session", "epoch", "detail", "advice"})
"""Fields of log lines that hold what is drawn by the operating system's generator, such as ids."""


class Trace:
    """The lines so far, each with the simulated time."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, who: str, what: str, **fields: object) -> None:
        """One thing that happened."""
        text = "".join(f" {key}={value}" for key, value in fields.items())
        self.lines.append(f"{trio.current_time():11.5f} {who}: {what}{text}")

    def hash(self) -> str:
        """Of all lines."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


class TraceLogger:
    """Stands in for `common.logging.Logger`, and writes into a trace.

    Args:
        trace: gets the lines.
        who: who logs.
        listen: called with the event and the fields of each line.
    """

    def __init__(self, trace: Trace, who: str, listen: Callable[[str, dict[str, Any]], None] = lambda *_: None) -> None:
        self._trace = trace
        self._who = who
        self._listen = listen

    def _log(self, event: str, **fields: Any) -> None:
        self._trace.add(self._who, event, **{k: v for k, v in fields.items() if k not in _RANDOM_FIELDS})
        self._listen(event, fields)

    debug = info = warning = error = _log

    def as_logger(self) -> Logger:
        """This, for a parameter that wants a `Logger`."""
        return cast(Logger, self)
