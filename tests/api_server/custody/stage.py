"""A database with records, a keyring, and mirrors of it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.database import DatabaseRecordStore, row_of
from api_server.custody.documents.interfaces import Documents
from api_server.custody.mirror.ledger import MirrorLedger
from api_server.custody.mirror.mirror import Mirror
from api_server.custody.tables import custody_copies, custody_mirrors, custody_records
from api_server.db.database import Database
from api_server.leases.store import DatabaseLeases
from common.clock import SystemClock
from common.crypto.envelope import Envelope
from common.crypto.key_sets import ensure_key_pair
from common.crypto.keyring import KeyringFile, ensure_keyring
from tests.api_server.custody.samples import changed, record
from tests.databases.servers import make_database_file

__all__ = ["Stage"]


class Stage:
    """An installation, in a folder.

    Args:
        folder: for its database and keyring.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        ensure_keyring(folder / "keyring.json")
        ensure_key_pair(folder / "audit-signing-keys.json", folder / "audit-keys.json")
        if not (folder / "homeport.db").exists():
            make_database_file(folder / "homeport.db")
        self.database = Database.connect(f"sqlite:///{folder}/homeport.db")
        self.envelope = Envelope(KeyringFile(folder / "keyring.json"))
        self.clock = SystemClock()
        self.store = DatabaseRecordStore(self.database, self.clock)
        self.leases = DatabaseLeases(self.database, self.clock)

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.database.close()

    def mirror(self, documents: Documents, *, batch: int = 100) -> Mirror:
        """A mirror of the database."""
        return Mirror(documents, self.database, self.envelope, self.leases, self.clock, batch=batch)

    async def add(self, *numbers: int) -> None:
        """Records of those numbers."""
        for number in numbers:
            await self.store.put(record(number, envelope=self.envelope), expected=0)

    async def fill(self, count: int) -> None:
        """Many records, in one transaction."""
        rows = [row_of(record(number, envelope=self.envelope)) for number in range(count)]
        await self.database.write(lambda tx: tx.execute(insert(custody_records), rows))

    async def change(self, *numbers: int) -> None:
        """Change them."""
        for number in numbers:
            before = await self.store.get(f"ptk_{number:04}")
            await self.store.put(changed(before, envelope=self.envelope), expected=before.version)

    async def delete(self, *numbers: int) -> None:
        """Delete them."""
        for number in numbers:
            before = await self.store.get(f"ptk_{number:04}")
            await self.store.delete(before.id, expected=before.version)

    async def lose_everything(self) -> None:
        """An empty database, where there was one with records."""

        async def work(tx: AsyncConnection) -> None:
            for table in (custody_records, custody_copies, custody_mirrors):
                await tx.execute(delete(table))

        await self.database.write(work)

    async def pending(self, mirror: Mirror) -> tuple[int, int]:
        """Changes and deletions that a mirror lacks."""
        drift = await self.database.read(MirrorLedger(mirror.name).drift)
        return drift.changes, drift.deletions

    async def rows(self) -> list[tuple[object, ...]]:
        """Every record as it stands in the database."""

        async def work(tx: AsyncConnection) -> list[tuple[object, ...]]:
            return [tuple(row) for row in await tx.execute(select(custody_records).order_by(custody_records.c.id))]

        return await self.database.read(work)
