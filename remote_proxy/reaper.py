"""The reaper: the one periodic job of the relay.

A tunnel probes its device, counts its own silence and ends itself. What is left for the whole relay is to say of which
sessions the state has changed by time alone, to end those whose tunnel failed to end itself, and to forget revocations
that have run out.
"""

from __future__ import annotations

import asyncio

from common.clock import Clock
from common.logging import Logger
from remote_proxy.revocations import Revocations
from remote_proxy.store import InMemoryStore
from remote_proxy.tunnels.session import LiveTunnel

__all__ = ["Reaper"]


class Reaper:
    """Sweeps the store.

    Args:
        store: whose sessions are swept.
        revocations: whose expired entries are dropped.
        clock: source of wall time.
        interval: seconds between two sweeps.
        log: for sessions that had to be ended from outside, which should not happen.
    """

    def __init__(
        self,
        store: InMemoryStore[LiveTunnel],
        revocations: Revocations,
        *,
        clock: Clock,
        interval: float,
        log: Logger,
    ) -> None:
        self._store = store
        self._revocations = revocations
        self._clock = clock
        self._interval = interval
        self._log = log

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self.sweep()

    async def sweep(self) -> None:
        """One sweep, in steps that do not hold up the loop."""
        expired = self._store.cleanup_expired_nowait()
        if expired:
            self._log.warning("sessions had outlived their tunnels", number=expired)
        for _ in self._store.refresh():
            await asyncio.sleep(0)
        self._revocations.prune(self._clock.wall())
