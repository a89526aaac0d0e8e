"""Keeps when each token was last used.

A use costs a look at a flag; the database is written a few times a minute, off everybody's way. What is not written yet
is bounded. What does not fit is counted as lost; so is what cannot be written by the end of the process. A process that
is killed loses the uses since the last write: at most `INTERVAL` seconds of them, which is how exact the time is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from api_server.auth.interfaces import Identity
from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.tokens.metrics import TokenMetrics
from api_server.tokens.store import TokenStore
from common.logging import Logger, get_logger

__all__ = ["INTERVAL", "LastUse", "Use"]

INTERVAL: Final = 15.0
"""Seconds between two writes."""

_MOST: Final = 20_000
"""Tokens whose use waits to be written."""

_AT_ONCE: Final = 500
"""Tokens of one transaction: others write in between."""


class Use(Protocol):
    """A token that is remembered, with room for a note of its use."""

    noted: bool
    used_at: float
    """Seconds since the Unix epoch."""

    @property
    def identity(self) -> Identity:
        """Whom it stands for; the id is the token's."""
        ...


class LastUse:
    """What was used, until it is written.

    Args:
        database: of the tokens.
        metrics: what is counted.
        most: tokens whose use may wait.
        sleep: waits for so many seconds.
        log: told when it cannot be written.
    """

    def __init__(
        self,
        database: Database,
        metrics: TokenMetrics,
        *,
        most: int = _MOST,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._most = most
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)
        self._store = TokenStore()
        self._noted: list[Use] = []
        """Used since the last write."""
        self._waiting: dict[str, float] = {}
        """From before, not written yet."""
        self._failing = False

    def __len__(self) -> int:
        """Tokens whose use waits to be written."""
        return len(self._noted) + len(self._waiting)

    def note(self, use: Use, at: float) -> None:
        """A token was used, at so many seconds since the Unix epoch; on the way of each request. Between two writes the
        first use stands for those that follow.
        """
        if not use.noted:
            if len(self._noted) < self._most:
                use.noted = True
                use.used_at = at
                self._noted.append(use)
            else:
                self._metrics.uses_lost.inc()

    def used(self, token: str, at: float) -> None:
        """A token was used; seconds since the Unix epoch."""
        waiting = self._waiting
        if token in waiting or len(waiting) < self._most:
            waiting[token] = at
        else:
            self._metrics.uses_lost.inc()

    async def write(self) -> None:
        """Write what waits. What cannot be written waits on."""
        noted, self._noted = self._noted, []
        for use in noted:
            use.noted = False
            self.used(use.identity.id, use.used_at)
        waiting, self._waiting = self._waiting, {}
        tokens = list(waiting)
        for first in range(0, len(tokens), _AT_ONCE):
            some = {token: waiting[token] for token in tokens[first : first + _AT_ONCE]}
            try:
                await self._database.write(lambda tx: self._store.used(tx, some))  # noqa: B023  awaited here
            except DatabaseError as exc:
                if not self._failing:
                    self._log.warning("when API tokens were used cannot be kept", code=exc.code, detail=exc.detail)
                self._failing = True
                for token in tokens[first:]:
                    if token not in self._waiting:
                        self.used(token, waiting[token])
                return
        self._failing = False

    async def run(self) -> None:
        """Write every few seconds, until cancelled."""
        while True:
            await self._sleep(INTERVAL)
            if self._waiting or self._noted:
                await self.write()

    async def finish(self) -> None:
        """Write what is left, at the end of the process; what cannot be is lost."""
        await self.write()
        self._metrics.uses_lost.inc(len(self))
        self._waiting.clear()
        self._noted.clear()
