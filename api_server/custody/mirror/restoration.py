"""Brings the records at a destination into an empty database.

Nothing is believed that is not proven: the marker and the manifest are signed by the keyring's key, each document has
the digest that the manifest names, and opens. It is done in batches and goes on where it was cut; until it is whole,
the mirror sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.database import row_of
from api_server.custody.documents.interfaces import Documents
from api_server.custody.errors import (
    DatabaseNotEmptyError,
    DestinationAlteredError,
    DestinationUnprovenError,
)
from api_server.custody.mirror.exclusive import exclusive
from api_server.custody.mirror.ledger import ACTIVE, RESTORING, Copy
from api_server.custody.mirror.site import Progress, Site, State
from api_server.custody.mirror.statements import Entry, Manifest
from api_server.custody.records import digest_of
from api_server.custody.tables import custody_records
from api_server.db.database import Database
from api_server.leases.interfaces import Lease, Leases
from common.clock import Clock
from common.crypto.envelope import Envelope

__all__ = ["restore"]

_BATCH = 100
"""Records in one transaction."""


async def restore(
    documents: Documents,
    database: Database,
    envelope: Envelope,
    leases: Leases,
    clock: Clock,
    progress: Progress,
    *,
    batch: int = _BATCH,
    patience: float = 0.0,
) -> int:
    """Bring every record back; gives how many there are.

    Raises:
        DatabaseNotEmptyError: there are records here already.
        DestinationError: what is there is not proven, or was altered. What was brought back before is kept, and
            nothing is sent there.
        KeyMissingError: the keyring lacks the key of a record.
        CustodyError: it cannot be reached, or refuses.
    """
    site = Site(documents, database, envelope, leases, clock)
    async with exclusive(leases, documents, patience=patience) as lease:
        return await _Restoration(site, lease).run(progress, batch)


class _Restoration:
    def __init__(self, site: Site, lease: Lease) -> None:
        self._site = site
        self._lease = lease

    async def run(self, progress: Progress, batch: int) -> int:
        site = self._site
        await site.documents.open()
        await site.documents.refresh()
        manifest, state = await self._proven()
        await self._begin(state)
        done = await site.database.read(site.ledger.entries)
        remaining = sorted(manifest.records.keys() - done.keys())
        total = len(manifest.records)
        for start in range(0, len(remaining), batch):
            await self._bring(remaining[start : start + batch], manifest.records)
            progress(total - len(remaining) + min(start + batch, len(remaining)), total)

        async def finish(tx: AsyncConnection) -> None:
            await site.leases.check(tx, self._lease)
            await site.ledger.change(tx, state=ACTIVE, acknowledged_at=site.clock.wall())

        await site.database.write(finish)
        return total

    async def _proven(self) -> tuple[Manifest, State]:
        site = self._site
        marker, _ = await site.marker()
        if marker is None or marker.destination != site.destination:
            raise DestinationUnprovenError(
                f"{site.destination} shows no marker that the signing key of this keyring has signed; "
                "restore with the keyring of the installation that has written there"
            )
        manifest, state = await site.manifest()
        if manifest is None:
            raise DestinationAlteredError(f"{site.destination} has no manifest that is signed for it")
        return manifest, state

    async def _begin(self, state: State) -> None:
        site = self._site

        async def work(tx: AsyncConnection) -> None:
            await site.leases.check(tx, self._lease)
            pinned = await site.ledger.pinned(tx)
            if pinned is not None and pinned.state == RESTORING and pinned.destination == site.destination:
                if (pinned.manifest_number, pinned.manifest_digest) != (state.number, state.digest):
                    raise DestinationAlteredError(f"{pinned.destination} has changed since the restoration began")
                return
            count = (await tx.execute(select(func.count()).select_from(custody_records))).scalar_one()
            if count or pinned is not None:
                raise DatabaseNotEmptyError(
                    f"the database has {count} records, or has sent some to this mirror; records are restored into an "
                    "empty one"
                )
            now = site.clock.wall()
            await site.ledger.pin(tx, site.destination, now, number=state.number, digest=state.digest, state=RESTORING)

        await site.database.write(work)

    async def _bring(self, ids: Sequence[str], entries: dict[str, Entry]) -> None:
        site = self._site
        found = await site.proven(ids, entries)
        copies = [
            # Revision 0: newer than the manifest, and the next one is to name it.
            Copy(each.id, each.version, int(entries[each.id].digest == digest), digest, document.tag)
            for each, document in found
            for digest in (digest_of(document.content),)
        ]

        async def work(tx: AsyncConnection) -> None:
            await site.leases.check(tx, self._lease)
            await tx.execute(insert(custody_records), [row_of(record) for record, _ in found])
            await site.ledger.acknowledge(tx, copies, site.clock.wall())

        await site.database.write(work)
