"""Counts in memory, and writes what was counted every few seconds.

    count ──> gathered: at most `most` different counts
                 ├──full──> counted for the team alone (folded); full of teams, too: lost, and that is counted
                 └──every `interval`──> added to the database; if it is away they stay gathered

A process that is killed loses what it has gathered since the last write: an interval at most, unless the database was
away. When the database goes away in the middle of a write, that write may be there although it is done again: what is
counted then is a little too much, not too little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from api_server.auth.interfaces import Identity
from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.usage.metrics import UsageMetrics
from api_server.usage.records import HOUR, Key
from api_server.usage.store import UsageStore
from common.clock import Clock
from common.ids import TeamId
from common.logging import Logger, get_logger

__all__ = ["UsageRecorder"]

_MOST: Final = 10_000

_MAX_ROUTE: Final = 100
_MAX_TOKEN: Final = 64
"""Characters, as the columns have them."""


class UsageRecorder:
    """Implements `api_server.gateway.governor.UsageCounter`.

    Args:
        database: that it is written to.
        metrics: how that goes.
        clock: wall time.
        interval: seconds between two writes.
        retention: seconds for which counts are kept; 0 for ever.
        most: different counts that are gathered.
        before_write: told to report what is under way.
        sleep: waits for so many seconds.
        log: told when it cannot be written.
    """

    def __init__(
        self,
        database: Database,
        metrics: UsageMetrics,
        clock: Clock,
        *,
        interval: float = 5.0,
        retention: float = 0.0,
        most: int = _MOST,
        before_write: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._interval = interval
        self._retention = retention
        self._most = most
        self._before_write = before_write
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)
        self._store = UsageStore()
        self._gathered: dict[Key, list[int]] = {}
        self._failing = False
        self._swept = 0
        """The hour in which old counts were last forgotten."""

    def __repr__(self) -> str:
        return f"<UsageRecorder: {len(self._gathered)} counts to be written>"

    def count(
        self,
        team: TeamId,
        identity: Identity,
        route: str,
        status: int,
        requests: int,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        """As `UsageCounter` says."""
        key = Key(team, int(self._clock.wall()) // HOUR, identity.id, route, status)
        sums = self._gathered.get(key)
        if sums is None:
            sums = self._new(key, requests)
            if sums is None:
                return
        sums[0] += requests
        sums[1] += bytes_in
        sums[2] += bytes_out

    def _new(self, key: Key, requests: int) -> list[int] | None:
        """Room for a count that is not gathered yet; None when there is none."""
        gathered = self._gathered
        if len(gathered) >= self._most:
            key = key._replace(token="", route="", status=0)
            self._metrics.folded.inc(requests)
            if key not in gathered and len(gathered) >= 2 * self._most:
                self._metrics.lost.inc(requests)
                return None
        elif len(key.route) > _MAX_ROUTE or len(key.token) > _MAX_TOKEN:
            key = key._replace(token=key.token[:_MAX_TOKEN], route=key.route[:_MAX_ROUTE])
        return gathered.setdefault(key, [0, 0, 0])

    async def run(self) -> None:
        """Write what was counted, until cancelled."""
        while True:
            await self._sleep(self._interval)
            await self.flush()
            await self._sweep()

    async def flush(self) -> None:
        """Write what was counted. It never raises: what cannot be written stays gathered."""
        self._before_write()
        gathered, self._gathered = self._gathered, {}
        if gathered:
            try:
                await self._database.write(lambda tx: self._store.add(tx, gathered))
            except DatabaseError as exc:
                self._take_back(gathered)
                self._metrics.failed.inc()
                if not self._failing:
                    self._log.warning("usage cannot be written", code=exc.code, detail=exc.detail)
                self._failing = True
            else:
                self._failing = False
                self._metrics.written.inc(sum(sums[0] for sums in gathered.values()))
        self._metrics.waiting.set(len(self._gathered))

    def _take_back(self, gathered: dict[Key, list[int]]) -> None:
        """Put what could not be written before what was counted meanwhile."""
        newer, self._gathered = self._gathered, gathered
        for key, sums in newer.items():
            there = self._gathered.get(key)
            if there is None:
                there = self._new(key, sums[0])
            if there is not None:
                for position, value in enumerate(sums):
                    there[position] += value

    async def _sweep(self) -> None:
        """Once an hour, forget what is old enough."""
        now = self._clock.wall()
        hour = int(now) // HOUR
        if not self._retention or hour == self._swept:
            return
        try:
            await self._database.write(lambda tx: self._store.forget(tx, now - self._retention))
            self._swept = hour
        except DatabaseError as exc:
            self._log.warning("old usage cannot be deleted", code=exc.code, detail=exc.detail)
