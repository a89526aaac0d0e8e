"""Keeps when each device was last seen: when a session of it began or ended.

The relay's events come one by one; they are gathered and written together, off everybody's way. What is gathered is
bounded, and lost when the process ends: it is for people who look at a list, and nothing depends on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.devices.store import DeviceStore
from api_server.relay.events import EventKind, SessionEvent
from common.ids import DeviceId
from common.logging import Logger, get_logger

__all__ = ["DeviceSightings"]

_INTERVAL = 2.0
"""Seconds between two writes."""

_MOST = 10_000
"""Devices of which one write tells."""


class DeviceSightings:
    """Implements `api_server.relay.feed.EventListener`.

    Args:
        database: of the devices.
        sleep: waits for so many seconds.
        log: told when it cannot be written.
    """

    def __init__(
        self,
        database: Database,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self._database = database
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)
        self._store = DeviceStore()
        self._gathered: dict[DeviceId, float] = {}
        self._some = asyncio.Event()

    def session_changed(self, event: SessionEvent) -> None:
        """Remember it, unless there is too much to remember."""
        if event.type not in (EventKind.ONLINE, EventKind.OFFLINE):
            return
        device = event.session.device
        if device in self._gathered or len(self._gathered) < _MOST:
            self._gathered[device] = event.time
            self._some.set()

    def events_lost(self) -> None:
        """Then they are."""

    async def run(self) -> None:
        """Write what was gathered, until cancelled."""
        while True:
            await self._some.wait()
            await self._sleep(_INTERVAL)
            self._some.clear()
            gathered, self._gathered = self._gathered, {}
            try:
                await self._database.write(lambda tx: self._store.seen(tx, gathered))  # noqa: B023  awaited here
            except DatabaseError as exc:
                self._log.warning("when devices were seen cannot be kept", code=exc.code, detail=exc.detail)
