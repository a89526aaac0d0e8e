"""Changes that people may see go into the outbox in the very transaction that makes them, so that none is missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.interfaces import Change, ChangeLog
from api_server.webhooks.outbox import Outbox
from api_server.webhooks.records import Event
from common.clock import Clock
from common.ids import new_id

__all__ = ["OutboxedChanges"]


class OutboxedChanges:
    """Implements `ChangeLog`.

    Args:
        inner: tells the other processes.
        clock: wall time.
        wake: called when there may be something to deliver.
    """

    def __init__(self, inner: ChangeLog, clock: Clock, wake: Callable[[], None]) -> None:
        self._inner = inner
        self._clock = clock
        self._wake = wake
        self._outbox = Outbox()

    async def record(self, tx: AsyncConnection, change: Change) -> Change:
        recorded = await self._inner.record(tx, change)
        if change.event is not None and change.team is not None:
            event = Event(
                id=new_id("evt"),
                team=change.team,
                type=change.event,
                time=self._clock.wall(),
                data={"id": change.subject, **change.data},
            )
            await self._outbox.add(tx, event, event.time)
        return recorded

    async def announce(self, changes: Sequence[Change]) -> None:
        await self._inner.announce(changes)
        if any(change.event is not None for change in changes):
            self._wake()
