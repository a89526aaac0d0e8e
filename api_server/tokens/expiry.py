"""Says 30, 7 and 1 days before a token expires that it will: an event, and a mark that the list shows.

Every process looks; whoever first moves the mark says it, so that it is said once whatever their number. A time that
passed while nobody looked is made up for by the latest one alone, and a token that is made for less than 30 days is
not announced for what lies behind it already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.tokens.records import ApiToken
from api_server.tokens.store import TokenStore
from api_server.tokens.warnings import days_of, passed
from common.clock import Clock
from common.logging import Logger, get_logger

__all__ = ["ExpiryWarnings"]

_INTERVAL: Final = 60.0
"""Seconds between two looks."""

_AT_ONCE: Final = 100
"""Tokens of one look; the others are seen to by the next, which follows at once."""


class ExpiryWarnings:
    """Looks for tokens that expire soon.

    Args:
        database: of the tokens.
        changes: says it.
        clock: wall time.
        sleep: waits for so many seconds.
        log: told when the database is away.
    """

    def __init__(
        self,
        database: Database,
        changes: ChangeLog,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self._database = database
        self._changes = changes
        self._clock = clock
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)
        self._store = TokenStore()

    async def run(self) -> None:
        """Look every minute, until cancelled."""
        while True:
            try:
                while await self.look() == _AT_ONCE:
                    pass
            except DatabaseError as exc:
                self._log.warning("API tokens that expire soon cannot be looked for", code=exc.code, detail=exc.detail)
            await self._sleep(_INTERVAL)

    async def look(self) -> int:
        """Give the warnings that are due; returns how many tokens were found.

        Raises:
            DatabaseError: it is away.
        """
        now = self._clock.wall()
        found = await self._database.read(lambda tx: self._store.due(tx, now, limit=_AT_ONCE))
        for token in found:
            await self._warn(token, passed(token.expires_at, now))
        return len(found)

    async def _warn(self, token: ApiToken, warned: int) -> None:
        days = days_of(warned)

        async def work(tx: AsyncConnection) -> list[Change]:
            if not await self._store.warn(tx, token, warned):
                return []  # another process has; or it was rotated or revoked meanwhile
            change = Change(
                topic=Topic.TOKENS,
                team=token.team,
                subject=token.id,
                event="token.expiring",
                data={"name": token.name, "expires_at": token.expires_at, "days": days},
            )
            return [await self._changes.record(tx, change)]

        await self._changes.announce(await self._database.write(work))
