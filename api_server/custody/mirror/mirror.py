"""One mirror, which may be the primary: what the destination lacks is sent, and only what it acknowledged is believed.

    prove      the settings name the place that was pinned; the place shows our marker; its manifest is the newest one
               that we know. Otherwise nothing is sent, and the error says why (C4, C5, C7). A primary whose manifest is
               newer has its records taken instead (`following`)
    guard      a sync that would delete more than a fifth of the copies stops and asks (C4)
    send       in batches, each with its manifest (`sending`)

Nothing is ever deleted there because it is missing here: a deletion is a row that says so. So an empty or older
database, or an empty clone, deletes nothing; when a mirror has more than it, that is an error that somebody looks at.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.documents.interfaces import RECORDS, Documents
from api_server.custody.errors import CustodyError, DeletionHeldError, DestinationUnprovenError
from api_server.custody.mirror.exclusive import exclusive
from api_server.custody.mirror.following import Following
from api_server.custody.mirror.ledger import Copy
from api_server.custody.mirror.proof import Proof, ahead, mark
from api_server.custody.mirror.sending import Sending
from api_server.custody.mirror.site import Progress, Site, nothing_told
from api_server.custody.records import digest_of
from api_server.db.database import Database
from api_server.leases.interfaces import Leases
from common.clock import Clock
from common.crypto.envelope import Envelope
from common.crypto.errors import SealError

__all__ = ["Mirror", "Progress", "Synced"]

_BATCH = 100
"""Records in one `apply`: a commit, or a transaction."""

_SHARE = 0.2
"""Of the copies, that one sync may delete without asking; a single one is always allowed."""


@dataclass(frozen=True, slots=True)
class Synced:
    """What came of a sync."""

    sent: int
    deleted: int
    taken: int = 0
    """From a primary that was ahead."""


class Mirror:
    """Keeps one destination as the database is.

    Args:
        documents: at the destination.
        database: the truth; of a primary its copy here.
        envelope: opens what is there, to know it for ours.
        leases: so that one process at a time does this.
        clock: wall time.
        primary: believe the destination when it is ahead.
        batch: records in one `apply`.
    """

    def __init__(
        self,
        documents: Documents,
        database: Database,
        envelope: Envelope,
        leases: Leases,
        clock: Clock,
        *,
        primary: bool = False,
        batch: int = _BATCH,
    ) -> None:
        self._site = Site(documents, database, envelope, leases, clock)
        self._proof = Proof(self._site, Following(self._site, batch=batch) if primary else None)
        self._sending = Sending(self._site, batch=batch)

    @property
    def name(self) -> str:
        """Of its kind of destination."""
        return self._site.documents.name

    @property
    def destination(self) -> str:
        """Where it is."""
        return self._site.destination

    async def close(self) -> None:
        """Leave nothing open."""
        await self._site.documents.close()

    async def sync(
        self, progress: Progress = nothing_told, *, taking: Progress = nothing_told, patience: float = 0.0
    ) -> Synced:
        """Send what the destination lacks.

        Args:
            progress: told how far it is.
            taking: told how many of how many newer records were taken from a primary.
            patience: seconds to wait for another process that is at it.

        Raises:
            StoreBusyError: another process is at it.
            CustodyError: it cannot be reached, refuses, or must not be used; nothing is lost.
            LeaseLostError: another process has taken over.
        """
        site = self._site
        async with exclusive(site.leases, site.documents, patience=patience) as lease:
            await site.note(attempted_at=site.clock.wall())
            try:
                state, taken = await self._proof.prove(lease, taking)
                await self._guard()
                sent, deleted = await self._sending.send(lease, state, progress)
            except (CustodyError, SealError) as exc:
                code, detail, now = exc.code, exc.detail, site.clock.wall()
                await site.database.write(lambda tx: site.ledger.note_problem(tx, code, detail, now))
                raise
        return Synced(sent, deleted, taken)

    async def allow_deletions(self) -> int:
        """Let the deletions that are waiting now through, in the next sync; gives their number."""
        drift = await self._site.database.read(self._site.ledger.drift)
        await self._site.note(allowed_deletions=drift.deletions)
        return drift.deletions

    async def adopt(self, *, discard: bool = False, patience: float = 0.0) -> None:
        """Take the destination that the settings name now, as it is now, and send everything anew.

        Args:
            discard: also where it holds records that this database has not. They stay there, named by no manifest.
            patience: seconds to wait for another process that is at it.

        Raises:
            DestinationAheadError: it holds such records.
            DestinationUnprovenError: it holds records and is not ours.
            CustodyError: it cannot be reached, or refuses.
        """
        site = self._site
        async with exclusive(site.leases, site.documents, patience=patience) as lease:
            await site.documents.forget()
            await site.documents.open()
            await site.documents.refresh()
            marker, found = await site.marker()
            names = await site.documents.names(RECORDS)
            if marker is None and names:
                raise DestinationUnprovenError(f"{site.destination} holds records, and no marker of this installation")
            ids = [name.removeprefix(RECORDS).removesuffix(".json") for name in names]
            known = await site.database.read(lambda tx: site.ledger.local(tx, ids))
            unknown = len(set(ids) - known.keys())
            if unknown and not discard:
                raise ahead(site, unknown)
            if marker is None or marker.destination != site.destination:
                await mark(site, found)
            _, state = await site.manifest()
            there = await site.documents.read_many(names)
            copies = [
                # Revision 0: everything is to be sent anew.
                Copy(record_id, version, 0, digest_of(there[name].content), there[name].tag)
                for record_id, name in zip(ids, names, strict=True)
                if name in there and (version := known.get(record_id, (None, 0, 0))[1])
            ]

            async def work(tx: AsyncConnection) -> None:
                now = site.clock.wall()
                await site.leases.check(tx, lease)
                await site.ledger.forget(tx)
                await site.ledger.pin(tx, site.destination, now, number=state.number, digest=state.digest)
                await site.ledger.acknowledge(tx, copies, now)

            await site.database.write(work)

    async def _guard(self) -> None:
        site = self._site
        drift = await site.database.read(site.ledger.drift)
        pinned = await site.database.read(site.ledger.pinned)
        allowed = 0 if pinned is None or pinned.allowed_deletions is None else pinned.allowed_deletions
        if drift.deletions > max(1, _SHARE * drift.copies, allowed):
            raise DeletionHeldError(
                f"{drift.deletions} of the {drift.copies} records at {site.destination} would be deleted; "
                f"`homeport custody sync {self.name} --allow-deletions` lets it, once somebody has looked"
            )
