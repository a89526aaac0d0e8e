"""Whether requests should be sent here: not while draining, and not while the relay is out of reach.

`/readyz` is public, so what it asks of the relay is bounded: one question at a time and at most one a second, whoever
asks and however often.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from common.clock import Clock

__all__ = ["Readiness", "RelayProbe"]


class RelayProbe(Protocol):
    """Asks the relay how it is."""

    async def reachable(self) -> bool:
        """Whether the relay answers, and takes requests. Never raises, and answers within seconds."""
        ...


class Readiness:
    """Answers `/readyz`.

    Args:
        relay: asked at most once in `max_age`.
        clock: monotonic time.
        max_age: seconds that an answer of the relay is good for.
    """

    def __init__(self, relay: RelayProbe, clock: Clock, *, max_age: float = 1.0) -> None:
        self._relay = relay
        self._clock = clock
        self._max_age = max_age
        self._draining = False
        self._reachable = False
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()

    def drain(self) -> None:
        """Not ready from now on."""
        self._draining = True

    async def obstacle(self) -> str | None:
        """Why requests should not be sent here; None when they should."""
        if self._draining:
            return "the process is draining"
        async with self._asking:
            now = self._clock.monotonic()
            if self._asked_at is None or now - self._asked_at >= self._max_age:
                self._reachable = await self._relay.reachable()
                self._asked_at = self._clock.monotonic()
        return None if self._reachable else "the relay is not reachable, or is draining"
