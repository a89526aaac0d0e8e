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
from api_server.custody.documents.interfaces import Documents, name_of
from api_server.custody.errors import (
    DatabaseNotEmptyError,
    DestinationAlteredError,
    DestinationUnprovenError,
)
from api_server.custody.mirror.exclusive import exclusive
from api_server.custody.mirror.ledger import ACTIVE, RESTORING, Copy, MirrorLedger
from api_server.custody.mirror.mirror import Progress
from api_server.custody.mirror.statements import MANIFEST, MARKER, Entry, Manifest, Marker, Signer
from api_server.custody.records import Record, digest_of, record_in
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
    async with exclusive(leases, documents, patience=patience) as lease:
        restoration = _Restoration(documents, database, envelope, leases, clock, lease)
        return await restoration.run(progress, batch)


class _Restoration:
    def __init__(
        self,
        documents: Documents,
        database: Database,
        envelope: Envelope,
        leases: Leases,
        clock: Clock,
        lease: Lease,
    ) -> None:
        self._documents = documents
        self._database = database
        self._envelope = envelope
        self._leases = leases
        self._clock = clock
        self._lease = lease
        self._ledger = MirrorLedger(documents.name)

    async def run(self, progress: Progress, batch: int) -> int:
        await self._documents.open()
        await self._documents.refresh()
        manifest, digest = await self._proven()
        await self._begin(manifest.number, digest)
        done = await self._database.read(self._ledger.entries)
        remaining = sorted(manifest.records.keys() - done.keys())
        total = len(manifest.records)
        for start in range(0, len(remaining), batch):
            await self._bring(remaining[start : start + batch], manifest.records)
            progress(total - len(remaining) + min(start + batch, len(remaining)), total)

        async def finish(tx: AsyncConnection) -> None:
            await self._leases.check(tx, self._lease)
            await self._ledger.change(tx, state=ACTIVE, acknowledged_at=self._clock.wall())

        await self._database.write(finish)
        return total

    async def _proven(self) -> tuple[Manifest, str]:
        """The manifest, and its digest."""
        signer, destination = Signer(self._envelope.keyring), self._documents.destination
        found = await self._documents.read(MARKER)
        marker = None if found is None else signer.read(found.content, Marker)
        if marker is None or marker.destination != destination:
            raise DestinationUnprovenError(
                f"{destination} shows no marker that the signing key of this keyring has signed; "
                "restore with the keyring of the installation that has written there"
            )
        document = await self._documents.read(MANIFEST)
        manifest = None if document is None else signer.read(document.content, Manifest)
        if document is None or manifest is None or manifest.destination != destination:
            raise DestinationAlteredError(f"{destination} has no manifest that is signed for it")
        return manifest, digest_of(document.content)

    async def _begin(self, number: int, digest: str) -> None:
        async def work(tx: AsyncConnection) -> None:
            await self._leases.check(tx, self._lease)
            pinned = await self._ledger.pinned(tx)
            if pinned is not None and pinned.state == RESTORING and pinned.destination == self._documents.destination:
                if (pinned.manifest_number, pinned.manifest_digest) != (number, digest):
                    raise DestinationAlteredError(f"{pinned.destination} has changed since the restoration began")
                return
            count = (await tx.execute(select(func.count()).select_from(custody_records))).scalar_one()
            if count or pinned is not None:
                raise DatabaseNotEmptyError(
                    f"the database has {count} records, or has sent some to this mirror; records are restored into an "
                    "empty one"
                )
            now = self._clock.wall()
            await self._ledger.pin(tx, self._documents.destination, now, number=number, digest=digest, state=RESTORING)

        await self._database.write(work)

    async def _bring(self, ids: Sequence[str], entries: dict[str, Entry]) -> None:
        documents = await self._documents.read_many([name_of(each) for each in ids])
        records: list[Record] = []
        copies: list[Copy] = []
        for record_id in ids:
            document, entry = documents.get(name_of(record_id)), entries[record_id]
            record = None if document is None else record_in(document.content)
            if document is None or record is None or record.id != record_id:
                raise DestinationAlteredError(f"{name_of(record_id)} at {self._documents.destination} is not there")
            if digest_of(document.content) != entry.digest:
                raise DestinationAlteredError(
                    f"{name_of(record_id)} at {self._documents.destination} is not what the manifest names"
                )
            self._envelope.open(record.sealed, record.context())
            records.append(record)
            copies.append(Copy(record_id, record.version, 1, entry.digest, document.tag))

        async def work(tx: AsyncConnection) -> None:
            await self._leases.check(tx, self._lease)
            await tx.execute(insert(custody_records), [row_of(record) for record in records])
            await self._ledger.acknowledge(tx, copies, self._clock.wall())

        await self._database.write(work)
