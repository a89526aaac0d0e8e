"""Whether requests should be sent here: not while draining, and not while the relay is out of reach.

Without its database the process is still of use: it carries requests to devices. `/readyz` says so, and is ready:
otherwise every process would be taken out at once, and nothing worked.

`/readyz` is public, so what it asks is bounded: one question at a time and at most one a second, whoever asks and
however often.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from api_server.db.errors import DatabaseError
from common.clock import Clock

__all__ = ["DatabaseProbe", "Readiness", "RelayProbe"]


class RelayProbe(Protocol):
    """Asks the relay how it is."""

    async def reachable(self) -> bool:
        """Whether the relay answers, and takes requests. Never raises, and answers within seconds."""
        ...


class DatabaseProbe(Protocol):
    """Asks the database how it is."""

    async def ping(self) -> None:
        """Find out whether the database answers, within seconds.

        Raises:
            DatabaseError: it does not.
        """
        ...


class Readiness:
    """Answers `/readyz`.

    Args:
        relay: asked at most once in `max_age`.
        database: asked as often.
        clock: monotonic time.
        max_age: seconds that an answer is good for.
    """

    def __init__(self, relay: RelayProbe, database: DatabaseProbe, clock: Clock, *, max_age: float = 1.0) -> None:
        self._relay = relay
        self._database = database
        self._clock = clock
        self._max_age = max_age
        self._draining = False
        self._reachable = False
        self._database_there = False
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()

    def drain(self) -> None:
        """Not ready from now on."""
        self._draining = True

    async def obstacle(self) -> str | None:
        """Why requests should not be sent here; None when they should."""
        if self._draining:
            return "the process is draining"
        await self._ask()
        return None if self._reachable else "the relay is not reachable, or is draining"

    async def database_there(self) -> bool:
        """Whether the database answers."""
        await self._ask()
        return self._database_there

    async def _ask(self) -> None:
        async with self._asking:
            now = self._clock.monotonic()
            if self._asked_at is None or now - self._asked_at >= self._max_age:
                self._reachable, self._database_there = await asyncio.gather(self._relay.reachable(), self._ping())
                self._asked_at = self._clock.monotonic()

    async def _ping(self) -> bool:
        try:
            await self._database.ping()
        except DatabaseError:
            return False
        return True
