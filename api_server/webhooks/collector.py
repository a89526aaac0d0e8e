"""Events that no transaction makes: of sessions, which every process hears from the relay, and of limits.

They are gathered for a moment and kept together. Every process keeps every event of a session; the id of the event
makes it one (`webhook_events`). What is gathered is bounded; what is given up is counted. Events of teams without a
webhook cost a look into a set.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.relay.events import EventKind, SessionEvent
from api_server.webhooks.metrics import WebhookMetrics
from api_server.webhooks.outbox import Outbox
from api_server.webhooks.records import Event
from api_server.webhooks.store import WebhookStore
from common.clock import Clock
from common.ids import TeamId
from common.logging import Logger, get_logger

__all__ = ["EventCollector"]

_TOGETHER: Final = 0.1
"""Seconds in which events are gathered."""

_AGAIN: Final = 1.0
"""Seconds until a write that failed is tried again."""

_MOST: Final = 5_000
_AT_ONCE: Final = 100

LIMIT_REACHED: Final = "limit.reached"


class EventCollector:
    """Implements `api_server.relay.feed.EventListener`, and `ChangeListener` for the webhooks.

    Args:
        database: with the outbox.
        metrics: what is counted.
        clock: wall time.
        changes: shows what a limit does to those who follow events.
        wake: called when there is something to deliver.
        sleep: waits for so many seconds.
        log: told when it cannot be written.
    """

    def __init__(
        self,
        database: Database,
        metrics: WebhookMetrics,
        clock: Clock,
        changes: ChangeLog,
        wake: Callable[[], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self.topic = Topic.WEBHOOKS
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._changes = changes
        self._wake = wake
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)
        self._outbox = Outbox()
        self._store = WebhookStore()
        self._teams: frozenset[TeamId] | None = None
        """Those that have a webhook; None when that has to be looked up."""
        self._looked = 0
        """Grows with each look and each change: an answer from before a change is not believed."""
        self._gathered: list[Event] = []
        self._shown: list[Change] = []
        """What is only shown to those who follow events."""
        self._some = asyncio.Event()

    def __repr__(self) -> str:
        return f"<EventCollector: {len(self._gathered)} events to be kept>"

    # EventListener

    def session_changed(self, event: SessionEvent) -> None:
        """A session came or went."""
        if event.type not in (EventKind.ONLINE, EventKind.OFFLINE) or not self._wanted(event.team):
            return
        session = event.session
        data: dict[str, Any] = {
            "session": session.id,
            "device": session.device,
            "device_name": session.device_name,
            "remote_address": session.remote_address,
        }
        if event.reason is not None:
            data["reason"] = event.reason
        self._offer(
            Event(
                id=_id_of(event.team, event.id, event.type),
                team=event.team,
                type=event.type,
                time=event.time,
                data=data,
            )
        )

    def events_lost(self) -> None:
        """Then nobody is told of them: a webhook follows what happens, not what is."""

    def limit_reached(self, team: TeamId, kind: str, subject: str, limit: str) -> None:
        """A limit began to refuse. Said by several processes within a minute, it is one event."""
        data = {"kind": kind, "subject": subject, "limit": limit}
        if len(self._shown) < _MOST:
            self._shown.append(Change(topic=Topic.EVENTS, team=team, subject=subject, event=LIMIT_REACHED, data=data))
            self._some.set()
        if not self._wanted(team):
            return
        now = self._clock.wall()
        name = _id_of(team, f"{kind}/{subject}/{limit}/{int(now // 60)}", LIMIT_REACHED)
        self._offer(Event(id=name, team=team, type=LIMIT_REACHED, time=now, data=data))

    def _wanted(self, team: TeamId) -> bool:
        return self._teams is None or team in self._teams

    def _offer(self, event: Event) -> None:
        if len(self._gathered) >= _MOST:
            self._metrics.lost.inc()
            return
        self._gathered.append(event)
        self._some.set()

    # ChangeListener

    def changed(self, change: Change) -> None:  # noqa: ARG002
        """Look again who has webhooks."""
        self.all_changed()

    def all_changed(self) -> None:
        """Look again who has webhooks."""
        self._teams = None
        self._looked += 1
        self._some.set()

    # Keeping

    async def run(self) -> None:
        """Keep what is gathered, until cancelled."""
        failing = False
        while True:
            await self._some.wait()
            await self._sleep(_TOGETHER)
            self._some.clear()
            shown, self._shown = self._shown, []
            await self._changes.announce(shown)
            try:
                if self._teams is None:
                    looked = self._looked = self._looked + 1
                    found = await self._database.read(self._store.teams)
                    if looked == self._looked:
                        self._teams = found
                while self._gathered:
                    batch = self._gathered[:_AT_ONCE]
                    kept = await self._database.write(lambda tx: self._keep(tx, batch))  # noqa: B023  awaited here
                    del self._gathered[: len(batch)]
                    if kept:
                        self._metrics.events.inc(kept)
                        self._wake()
                failing = False
            except DatabaseError as exc:
                if not failing:
                    self._log.warning("events for webhooks cannot be kept", code=exc.code, detail=exc.detail)
                failing = True
                self._teams = None
                self._some.set()
                await self._sleep(_AGAIN)

    async def _keep(self, tx: AsyncConnection, events: list[Event]) -> int:
        """In the order of their ids, which is the same in every process: so that none waits for another that waits."""
        kept, now = 0, self._clock.wall()
        for event in sorted(events, key=lambda each: each.id):
            kept += bool(await self._outbox.add(tx, event, now))
        return kept


def _id_of(team: TeamId, what: str, kind: str) -> str:
    """An id that is the same in every process."""
    digest = hashlib.sha256(f"{team}\n{what}\n{kind}".encode()).hexdigest()
    return f"evt_{digest[:32]}"
