"""Tells the caches of this process what was changed, here or elsewhere, and whether they may be trusted at all.

    a notice is heard                    the one thing is dropped, at once
    a number is missing between two      a poll, at once
    the bus broke off, or lost events    a poll, at once; then one every second until the bus is heard again
    nothing happens                      a poll every five seconds
    a poll finds an unheard number       everything of the topic is distrusted

`fresh` is false when neither the database nor the bus was heard for ten seconds. The bus counts only if a poll since
it last broke off has shown that nothing is missing: a bus that is there may have been away when it mattered.
"""

from __future__ import annotations

import asyncio
from typing import Final

from api_server.changes.generations import GenerationBook, GenerationStore
from api_server.changes.interfaces import Change, ChangeListener
from api_server.changes.notices import change_of
from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.relay.events import Notice
from common.clock import Clock
from common.logging import Logger, get_logger

__all__ = ["ChangeFeed"]

_NEVER: Final = float("-inf")


class ChangeFeed:
    """Implements `Freshness`, and `api_server.relay.feed.NoticeListener`.

    Args:
        database: with the numbers.
        clock: monotonic time.
        interval: seconds between two polls while the bus is heard.
        lonely_interval: and while it is not.
        patience: seconds for which something that was heard stays fresh; the relay says something every five.
        log: says when the database cannot be asked.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        interval: float = 5.0,
        lonely_interval: float = 1.0,
        patience: float = 10.0,
        log: Logger | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._interval = interval
        self._lonely_interval = lonely_interval
        self._patience = patience
        self._log = log if log is not None else get_logger(__name__)
        self._store = GenerationStore()
        self._book = GenerationBook()
        self._listeners: list[ChangeListener] = []
        self._look = asyncio.Event()
        """Ask the database at once."""
        self._polled_at = _NEVER
        """When the last question to the database was put that it answered."""
        self._heard_at = _NEVER
        self._losses = 0
        """How often the bus was lost; what a poll began after covers all before it."""
        self._covered = -1
        """The losses that a poll has covered."""
        self._bus_there = False
        self._failing = False

    def __repr__(self) -> str:
        return f"<ChangeFeed: {len(self._listeners)} listeners, {'fresh' if self.fresh() else 'not fresh'}>"

    def add(self, listener: ChangeListener) -> None:
        """Tell `listener` from now on."""
        self._listeners.append(listener)

    def fresh(self) -> bool:
        """Whether the truth was heard of within the last ten seconds; otherwise no cache may be trusted."""
        now = self._clock.monotonic()
        if now - self._polled_at <= self._patience:
            return True
        return self._covered == self._losses and now - self._heard_at <= self._patience

    def tell(self, change: Change) -> None:
        """A change was heard of: tell the listeners of its topic, unless they know."""
        if not self._book.new(change.topic, change.generation):
            return
        for listener in self._listeners:
            if listener.topic == change.topic:
                if change.subject:
                    listener.changed(change)
                else:
                    listener.all_changed()
        if self._book.heard(change.topic, change.generation):
            self._look.set()

    # The bus

    def bus_heard(self) -> None:
        self._heard_at = self._clock.monotonic()
        self._bus_there = True

    def bus_lost(self) -> None:
        self._losses += 1
        self._bus_there = False
        self._look.set()

    def notice_heard(self, notice: Notice) -> None:
        change = change_of(notice)
        if change is not None:
            self.tell(change)

    # The truth

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            self._look.clear()
            await self.poll()
            try:
                async with asyncio.timeout(self._pause()):
                    await self._look.wait()
            except TimeoutError:
                pass

    async def poll(self) -> None:
        """Ask the database once, and tell the listeners what was missed."""
        asked_at, losses, known = self._clock.monotonic(), self._losses, self._book.known()
        try:
            values = await self._database.read(self._store.read)
        except DatabaseError as exc:
            if not self._failing:
                self._log.warning("what other processes change cannot be read", code=exc.code, detail=exc.detail)
            self._failing = True
            return
        self._failing = False
        first = self._polled_at == _NEVER
        self._polled_at = asked_at
        self._covered = losses
        missed = self._book.polled(values, known_before=known)
        for listener in self._listeners:
            if first or listener.topic in missed:
                listener.all_changed()

    def _pause(self) -> float:
        heard = self._bus_there and self._clock.monotonic() - self._heard_at <= self._patience
        return self._interval if heard and not self._failing else self._lonely_interval
