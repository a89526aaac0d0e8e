"""A destination, and what is needed to work at it: what proving, sending and taking have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.documents.interfaces import Document, Documents, name_of
from api_server.custody.errors import DestinationAlteredError
from api_server.custody.mirror.ledger import Copy, MirrorLedger
from api_server.custody.mirror.statements import MANIFEST, MARKER, Entry, Manifest, Marker, Signer
from api_server.custody.records import Record, digest_of, record_in
from api_server.db.database import Database
from api_server.leases.interfaces import Lease, Leases
from common.clock import Clock
from common.crypto.envelope import Envelope
from common.crypto.errors import SealError

__all__ = ["Progress", "Site", "State", "nothing_told"]

Progress = Callable[[int, int], None]
"""Told how many of how many are done."""


def nothing_told(_done: int, _total: int) -> None:
    """A `Progress` for nobody."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known to be at a destination."""

    number: int
    """Of its manifest; 0 before the first."""
    digest: str
    tag: str | None
    """Of the manifest's document."""


@dataclass(frozen=True, slots=True)
class Site:
    """Everything at hand."""

    documents: Documents
    database: Database
    envelope: Envelope
    leases: Leases
    clock: Clock

    @property
    def destination(self) -> str:
        """Where it is."""
        return self.documents.destination

    @property
    def ledger(self) -> MirrorLedger:
        """What the database knows of it."""
        return MirrorLedger(self.documents.name)

    @property
    def signer(self) -> Signer:
        """Signs what is left there; of the keyring as it is now."""
        return Signer(self.envelope.keyring)

    async def marker(self) -> tuple[Marker | None, Document | None]:
        """The marker that this installation has signed, if there is one, and whatever is in its place."""
        found = await self.documents.read(MARKER)
        return None if found is None else self.signer.read(found.content, Marker), found

    async def manifest(self) -> tuple[Manifest | None, State]:
        """The manifest that is there.

        Raises:
            DestinationAlteredError: it is not signed by this installation, or was made for another place.
        """
        document = await self.documents.read(MANIFEST)
        if document is None:
            return None, State(0, "", None)
        manifest = self.signer.read(document.content, Manifest)
        if manifest is None or manifest.destination != self.destination:
            raise DestinationAlteredError(f"the manifest at {self.destination} is not signed by this installation")
        return manifest, State(manifest.number, digest_of(document.content), document.tag)

    async def proven(self, ids: Sequence[str], entries: Mapping[str, Entry]) -> list[tuple[Record, Document]]:
        """Records as a manifest names them, each opened once.

        Where a batch is not one transaction, one that was cut has left records that are newer than the manifest, and
        what they have replaced is gone. Such a record is ours if it opens, under its own id and version.

        Raises:
            DestinationAlteredError: one is not there, or is not what the manifest names.
            SealError: one does not open.
        """
        documents = await self.documents.read_many([name_of(each) for each in ids])
        found = []
        for record_id in ids:
            document, entry = documents.get(name_of(record_id)), entries[record_id]
            record = None if document is None else record_in(document.content)
            if document is None or record is None or record.id != record_id:
                raise DestinationAlteredError(f"{name_of(record_id)} at {self.destination} is not there")
            if (record.version, digest_of(document.content)) != (entry.version, entry.digest):
                if self.documents.is_atomic or record.version < entry.version or not self.opens(record):
                    raise DestinationAlteredError(
                        f"{name_of(record_id)} at {self.destination} is not what the manifest names"
                    )
            else:
                self.envelope.open(record.sealed, record.context())
            found.append((record, document))
        return found

    def opens(self, record: Record) -> bool:
        """Whether this installation has sealed it."""
        try:
            self.envelope.open(record.sealed, record.context())
        except SealError:
            return False
        return True

    async def acknowledge(self, lease: Lease, copies: Sequence[Copy], number: int, digest: str) -> None:
        """Keep what is there by a manifest."""
        now = self.clock.wall()

        async def work(tx: AsyncConnection) -> None:
            await self.leases.check(tx, lease)
            await self.ledger.acknowledge(tx, copies, now)
            await self.ledger.change(
                tx,
                manifest_number=number,
                manifest_digest=digest,
                next_number=None,
                next_digest=None,
                acknowledged_at=now,
            )

        await self.database.write(work)

    async def note(self, **values: object) -> None:
        """Change what is known of it."""
        await self.database.write(lambda tx: self.ledger.change(tx, **values))
