"""Revokes what devices dial in with, and keeps it revoked.

    a device is disabled, revoked or deleted, or one of its session tokens is
        1. `keep`: into the database, in the transaction that does it
        2. `enforce`: to the relay; the live session is closed, later handshakes are refused
    the relay restarted, or did not answer in step 2
        3. all that is in force to the relay, again and again until it has it

A relay that has just started may admit a revoked device until step 3; with its setting `await_revocations` it admits
nobody until then.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.devices.interfaces import RelayRevocations, Revocation
from api_server.devices.ledger import RevocationLedger
from api_server.relay.events import SessionEvent
from common.backoff import Backoff
from common.clock import Clock
from common.logging import Logger, get_logger
from common.sessions.errors import SessionStoreError

__all__ = ["RevocationService"]


class RevocationService:
    """Implements `RevocationKeeper`, and `api_server.relay.feed.EventListener`.

    Args:
        database: what is in force.
        relay: enforces it.
        clock: wall time.
        backoff: delays between attempts to tell the relay.
        sleep: waits for so many seconds.
        log: says when the relay was told.
    """

    def __init__(
        self,
        database: Database,
        relay: RelayRevocations,
        *,
        clock: Clock,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self._database = database
        self._ledger = RevocationLedger()
        self._relay = relay
        self._clock = clock
        self._backoff = backoff if backoff is not None else Backoff(base=0.2, maximum=5.0)
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)
        self._owed = asyncio.Event()
        """The relay has to be told."""
        self._owed.set()

    @property
    def settled(self) -> bool:
        """Whether the relay knows all that is revoked, as far as is known here."""
        return not self._owed.is_set()

    async def keep(self, tx: AsyncConnection, revocations: Sequence[Revocation]) -> None:
        await self._ledger.keep(tx, revocations, self._clock.wall())

    async def enforce(self, revocations: Sequence[Revocation]) -> None:
        try:
            for each in revocations:
                await self._relay.revoke(each)
        except BaseException:
            self._owed.set()
            raise

    def session_changed(self, event: SessionEvent) -> None:
        """Of no concern here."""

    def events_lost(self) -> None:
        """The relay may be another one than before."""
        self._owed.set()

    async def run(self) -> None:
        """Tell the relay whenever it has to be told, until cancelled."""
        while True:
            await self._owed.wait()
            # Before the ledger is read: what comes during the call is told by another one.
            self._owed.clear()
            try:
                revocations = await self._database.read(lambda tx: self._ledger.in_force(tx, self._clock.wall()))
                await self._relay.tell_revocations(revocations)
            except (SessionStoreError, DatabaseError) as exc:
                self._owed.set()
                if self._backoff.attempts == 0:
                    self._log.warning("the relay does not know what is revoked", code=exc.code, detail=exc.detail)
                await self._sleep(self._backoff.next_delay(exc.retry_after))
            else:
                self._backoff.connected_for(math.inf)
                self._log.info("the relay knows what is revoked", revocations=len(revocations))
