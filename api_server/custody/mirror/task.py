"""Keeps a mirror in step while the API server runs: at once when something has changed, and now and then anyway.

A mirror that fails does not stop the server: what is wrong is kept for `homeport custody status` (by `Mirror.sync`),
logged, counted, and tried again. Nothing that a destination says gets into the log but by words of ours. Where one of
them is the primary, whoever waits for it is told how each of its syncs has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from enum import Enum

from prometheus_client import CollectorRegistry, Counter, Gauge

from api_server.custody.errors import CustodyError, StoreBusyError, StoreUnavailableError
from api_server.custody.mirror.ledger import MirrorLedger
from api_server.custody.mirror.mirror import Mirror
from api_server.custody.primary.acknowledgements import Acknowledgements
from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.leases.errors import LeaseLostError
from common.backoff import Backoff
from common.crypto.errors import SealError
from common.errors import HomeportError
from common.logging import get_logger

__all__ = ["MirrorMetrics", "Mirrors"]

_LONGEST = 300.0
"""Seconds between two attempts, however often one has failed."""

_BUSY = 2.0
"""Seconds until a look after another process: it may have been past what has just changed."""

_AWAITED = 0.25
"""The same at a primary while somebody waits for it."""


class _Outcome(Enum):
    """How a sync ended."""

    WELL = "well"
    BUSY = "busy"
    """Another process was at it."""
    FAILED = "failed"


class MirrorMetrics:
    """What is counted of mirrors."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pending = Gauge(
            "homeport_custody_pending_records",
            "Records that a mirror lacks, or has too many.",
            ["mirror"],
            registry=registry,
        )
        self.problem = Gauge(
            "homeport_custody_mirror_problem",
            "Whether the last sync failed; `homeport custody status` says why.",
            ["mirror"],
            registry=registry,
        )
        self.sent = Counter(
            "homeport_custody_sent_records_total",
            "Records and deletions that a mirror has acknowledged.",
            ["mirror"],
            registry=registry,
        )


class Mirrors:
    """Every mirror of this process.

    Args:
        mirrors: of the settings.
        database: the truth.
        metrics: of theirs.
        interval: seconds between two looks when nothing was told.
        primary: of one of them, where that is the primary: who waits for it.
    """

    def __init__(
        self,
        mirrors: Iterable[Mirror],
        database: Database,
        metrics: MirrorMetrics,
        *,
        interval: float,
        primary: Acknowledgements | None = None,
    ) -> None:
        self._mirrors = tuple(mirrors)
        self._database = database
        self._metrics = metrics
        self._interval = interval
        self._primary = primary
        self._changed = {mirror.name: asyncio.Event() for mirror in self._mirrors}
        if primary is not None:
            self._changed[primary.name] = primary.call
        self._log = get_logger("api_server.custody")

    def changed(self) -> None:
        """A record has changed: look at once."""
        for event in self._changed.values():
            event.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for mirror in self._mirrors:
                tasks.create_task(self._follow(mirror))

    async def close(self) -> None:
        """Leave nothing open."""
        for mirror in self._mirrors:
            await mirror.close()

    async def _follow(self, mirror: Mirror) -> None:
        backoff = Backoff(base=1.0, maximum=_LONGEST, healthy_after=0.0)
        event = self._changed[mirror.name]
        while True:
            event.clear()
            match await self._sync(mirror):
                case _Outcome.WELL:
                    backoff.connected_for(0.0)
                    wait = self._interval
                case _Outcome.BUSY:
                    primary = self._primary_of(mirror)
                    awaited = primary is not None and primary.is_awaited
                    wait = min(_AWAITED if awaited else _BUSY, self._interval)
                case _Outcome.FAILED:
                    wait = backoff.next_delay()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await event.wait()

    def _primary_of(self, mirror: Mirror) -> Acknowledgements | None:
        return self._primary if self._primary is not None and self._primary.name == mirror.name else None

    async def _sync(self, mirror: Mirror) -> _Outcome:
        name, primary = mirror.name, self._primary_of(mirror)
        fault: HomeportError

        def progress(_done: int, _total: int) -> None:
            if primary is not None:
                primary.progressed()

        def taking(done: int, total: int) -> None:
            self._log.info("records are taken from the primary", primary=name, done=done, total=total)
            progress(done, total)

        try:
            synced = await mirror.sync(progress, taking=taking)
            drift = await self._database.read(MirrorLedger(name).drift)
        except StoreBusyError:
            return _Outcome.BUSY
        except (CustodyError, DatabaseError, LeaseLostError, SealError) as exc:
            self._log.warning("a mirror is not in step", mirror=name, code=exc.code, detail=exc.detail)
            fault = exc
        except Exception as exc:
            # A fault of ours, or of a library. It must not take the server along; without its text, which may quote.
            self._log.error("a mirror has failed", mirror=name, error=type(exc).__name__)
            fault = StoreUnavailableError(f"{mirror.destination} has failed")
        else:
            self._metrics.problem.labels(name).set(0)
            self._metrics.pending.labels(name).set(drift.changes + drift.deletions)
            self._metrics.sent.labels(name).inc(synced.sent + synced.deleted)
            if synced.sent or synced.deleted:
                self._log.info("a mirror is in step", mirror=name, sent=synced.sent, deleted=synced.deleted)
            if primary is not None:
                primary.ended(None)
            return _Outcome.WELL
        self._metrics.problem.labels(name).set(1)
        if primary is not None:
            primary.ended(fault)
        return _Outcome.FAILED
