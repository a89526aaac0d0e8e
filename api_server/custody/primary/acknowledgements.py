"""Who waits for the primary, and what they are told.

    a change    ends when the ledger says that the primary has acknowledged it, whichever process has sent it
    a look      ends when the primary has answered anything: a sync of this process has ended well, or the ledger says
                that another process had something acknowledged
    both        end with an error when a sync of this process fails meanwhile, or nothing comes for too long

All that wait in this process share one look into the ledger, after each sync of this process and four times a second;
while nobody waits there is none. Many changes that wait share the syncs, too: a commit, a push.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter

from api_server.custody.errors import PrimaryBehindError, StoreUnavailableError
from api_server.custody.mirror.ledger import MirrorLedger
from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from common.clock import Clock
from common.errors import HomeportError
from common.logging import get_logger

__all__ = ["Acknowledgements", "PrimaryMetrics"]

_LOOK = 0.25
"""Seconds between two looks into the ledger while somebody waits."""

_AGAIN = 2.0
"""Seconds between two attempts that looks have a primary make that is known to fail."""

_LOOK_PATIENCE = 5.0
"""Seconds that a look waits at most: whoever asks has something else that it can do."""


class PrimaryMetrics:
    """What is counted of the primary."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.unacknowledged = Counter(
            "homeport_custody_unacknowledged_changes",
            "Changes that were answered before the primary had acknowledged them.",
            registry=registry,
        )


@dataclass(eq=False, kw_only=True)
class _Waiter:
    """Waits for a revision of a record, or, without one, for any answer."""

    record_id: str | None = None
    revision: int = 0
    since: float = 0.0
    """Wall time; only what was acknowledged later is an answer."""
    extends: bool = False
    """Whether progress of a sync gives it more time; only its end is an answer then."""
    future: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    deadline: asyncio.Timeout | None = None

    def tell(self, fault: HomeportError | None) -> None:
        """What has become of it; the first word counts."""
        if self.future.done():
            return
        if fault is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(fault)
            self.future.exception()  # it may have been given up just now


class Acknowledgements:
    """Of one primary, for one process.

    Args:
        name: of the primary.
        destination: where it is, for people.
        database: that has its ledger.
        clock: of both kinds.
        metrics: counts.
        patience: seconds that a change waits.
    """

    def __init__(
        self,
        name: str,
        destination: str,
        database: Database,
        clock: Clock,
        metrics: PrimaryMetrics,
        *,
        patience: float,
    ) -> None:
        self.name = name
        self.destination = destination
        self.ledger = MirrorLedger(name)
        self.call = asyncio.Event()
        """Set to have the primary synced at once; whoever does so waits for it."""
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._patience = patience
        self._log = get_logger("api_server.custody")
        self._waiters: dict[_Waiter, HomeportError | None] = {}
        """With what is to be told after one more look, if nothing better has come by then."""
        self._somebody = asyncio.Event()
        self._told = asyncio.Event()
        self._fault: HomeportError | None = None
        self._called_at = 0.0

    @property
    def fault(self) -> HomeportError | None:
        """Why the primary does not take changes just now, as far as this process knows."""
        return self._fault

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiters)

    async def of(self, record_id: str, revision: int) -> None:
        """Wait until the primary has acknowledged a revision of a record, or a later one.

        Raises:
            PrimaryBehindError: it has not; it will be sent by itself.
        """
        try:
            await self._wait(_Waiter(record_id=record_id, revision=revision), self._patience)
        except HomeportError as exc:
            self._metrics.unacknowledged.inc()
            self._log.warning("the primary has not acknowledged a change", record=record_id, code=exc.code)
            raise PrimaryBehindError(
                f"it is kept in the database, and sent to {self.destination} as soon as that takes it: {exc.detail}"
            ) from None

    async def reach(self) -> None:
        """Wait until the primary has answered. One that is known not to is not waited for.

        Raises:
            StoreUnavailableError: it has not.
        """
        if self._fault is not None:
            now = self._clock.monotonic()
            if now - self._called_at >= _AGAIN:
                self._called_at = now
                self.call.set()
            raise self._unreached(self._fault)
        try:
            await self._wait(_Waiter(since=self._clock.wall()), min(self._patience, _LOOK_PATIENCE))
        except HomeportError as exc:
            self._fault = exc
            raise self._unreached(exc) from None

    async def first(self) -> None:
        """At the start of a process: wait until the primary was synced once, for as long as that goes on.

        Raises:
            StoreUnavailableError: it does not answer.
        """
        try:
            await self._wait(_Waiter(extends=True), self._patience)
        except HomeportError as exc:
            self._fault = exc
            raise self._unreached(exc) from None

    def progressed(self) -> None:
        """A sync of this process goes on."""
        until = asyncio.get_running_loop().time() + self._patience
        for waiter in self._waiters:
            if waiter.extends and waiter.deadline is not None and not waiter.future.done():
                waiter.deadline.reschedule(until)

    def ended(self, fault: HomeportError | None) -> None:
        """A sync of this process has ended, well or with a fault."""
        self._fault = fault
        for waiter in self._waiters:
            if fault is not None:
                self._waiters[waiter] = fault
            elif waiter.record_id is None:
                waiter.tell(None)
        self._told.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._somebody.wait()
            self._told.clear()
            failed = {waiter: fault for waiter, fault in self._waiters.items() if fault is not None}
            # A database that is away tells nothing; those who wait give up in time.
            with contextlib.suppress(DatabaseError):
                await self._look()
            for waiter, fault in failed.items():
                waiter.tell(fault)
            if not self._waiters:
                self._somebody.clear()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._told.wait()

    async def _look(self) -> None:
        waiters = list(self._waiters)
        ids = sorted({each.record_id for each in waiters if each.record_id is not None})
        acknowledged = await self._database.read(lambda tx: self.ledger.acknowledged(tx, ids))
        known = await self._database.read(self.ledger.known)
        answered = 0.0 if known is None or known.acknowledged_at is None else known.acknowledged_at
        for each in waiters:
            if each.record_id is None:
                done = not each.extends and answered > each.since
            else:
                done = acknowledged.get(each.record_id, 0) >= each.revision
            if done:
                each.tell(None)

    async def _wait(self, waiter: _Waiter, patience: float) -> None:
        self._waiters[waiter] = None
        self._somebody.set()
        self.call.set()
        try:
            async with asyncio.timeout(patience) as waiter.deadline:
                await waiter.future
        except TimeoutError:
            raise StoreUnavailableError(f"{self.destination} has not answered in {patience:g} s") from None
        finally:
            del self._waiters[waiter]

    def _unreached(self, fault: HomeportError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the primary does not take changes: {fault.detail}", retry_after=fault.retry_after
        )
