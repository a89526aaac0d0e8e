"""Callbacks put off until the call that caused them has returned."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Deferred"]

logger = logging.getLogger("homeport.tunnel")


class Deferred:
    """A queue of calls, run in order by whoever has no caller of its own to surprise."""

    __slots__ = ("_calls", "_running")

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] | None = None
        self._running = False

    def __bool__(self) -> bool:
        """Whether there is something to run."""
        return self._calls is not None

    def add(self, call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Put a call off."""
        if self._calls is None:
            self._calls = deque()
        self._calls.append((call, arguments))

    def run(self) -> None:
        """Make the calls, and those that they add. One that raises is logged. Nothing happens from inside one."""
        calls = self._calls
        if self._running or calls is None:
            return
        self._running = True
        while calls:
            call, arguments = calls.popleft()
            try:
                call(*arguments)
            except Exception:
                logger.exception("a callback of a tunnel raised")
        self._calls = None
        self._running = False
