"""The record store of an installation whose primary is a remote store.

Reads come from the database. A change is made there first, in one transaction with what belongs to it, and answered
once the primary has acknowledged it. A change that it does not acknowledge in time is not undone: somebody may have
seen it, and a provider may have given what cannot be had twice. It stays to be sent, and the error says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.database import DatabaseRecordStore
from api_server.custody.interfaces import Also, StoreHealth
from api_server.custody.primary.acknowledgements import Acknowledgements
from api_server.custody.records import Record
from common.ids import TeamId

__all__ = ["PrimaryRecordStore"]


class PrimaryRecordStore:
    """A `RecordStore`.

    Args:
        copy: the database's, whose listeners have the primary synced.
        acknowledgements: of the primary; kept running.
    """

    def __init__(self, copy: DatabaseRecordStore, acknowledgements: Acknowledgements) -> None:
        self._copy = copy
        self._acknowledgements = acknowledgements
        self._ledger = acknowledgements.ledger

    @property
    def name(self) -> str:
        """Which kind the primary is."""
        return self._acknowledgements.name

    async def get(self, record_id: str) -> Record:
        """A record, as `RecordStore` says."""
        return await self._copy.get(record_id)

    async def put(self, record: Record, *, expected: int, also: Also | None = None) -> None:
        """Keep a record, as `RecordStore` says."""
        revisions: list[int] = []

        async def noted(tx: AsyncConnection) -> None:
            revisions[:] = [await self._ledger.revision(tx, record.id)]
            if also is not None:
                await also(tx)

        await self._copy.put(record, expected=expected, also=noted)
        await self._acknowledgements.of(record.id, revisions[0])

    async def delete(self, record_id: str, *, expected: int, also: Also | None = None) -> None:
        """Forget a record, as `RecordStore` says."""
        revisions: list[int] = []

        async def noted(tx: AsyncConnection) -> None:
            # The guard against mass deletions is for those that nobody waits for, one by one.
            await self._ledger.allow_deletion(tx)
            revisions[:] = [await self._ledger.revision(tx, record_id)]
            if also is not None:
                await also(tx)

        await self._copy.delete(record_id, expected=expected, also=noted)
        await self._acknowledgements.of(record_id, revisions[0])

    async def list(
        self, *, limit: int, after: str | None = None, team: TeamId | None = None, user: str | None = None
    ) -> Sequence[Record]:
        """Records in the order of their ids, as `RecordStore` says."""
        return await self._copy.list(limit=limit, after=after, team=team, user=user)

    async def ready(self) -> None:
        """Whether the primary answers, as `RecordStore` says."""
        await self._acknowledgements.reach()

    async def health(self) -> StoreHealth:
        """How the store is, as `RecordStore` says."""
        copy, fault = await self._copy.health(), self._acknowledgements.fault
        if not copy.ok or fault is not None:
            return StoreHealth(store=self.name, ok=False, detail=copy.detail if fault is None else fault.detail)
        return StoreHealth(store=self.name, ok=True, detail=self._acknowledgements.destination)
