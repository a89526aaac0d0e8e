"""A record store over any store of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from api_server.custody.documents.interfaces import RECORDS, Change, Document, Documents, name_of
from api_server.custody.errors import (
    CustodyError,
    DestinationAlteredError,
    DocumentConflictError,
    RecordConflictError,
    RecordNotFoundError,
)
from api_server.custody.interfaces import Also, StoreHealth
from api_server.custody.records import Record, check_record_id, document_of, record_in
from api_server.db.database import Database
from common.errors import HomeportError
from common.ids import TeamId

__all__ = ["DocumentRecordStore"]


class DocumentRecordStore:
    """A `RecordStore`.

    A change reads the document, compares the version in it with the expected one, and writes on condition that the
    document has not changed since: of two at once, one finds another tag.

    Args:
        documents: where they are kept; open.
        database: for what also belongs to a change; without one, nothing can.
    """

    def __init__(self, documents: Documents, database: Database | None = None) -> None:
        self._documents = documents
        self._database = database

    @property
    def name(self) -> str:
        """Which kind of store it is."""
        return self._documents.name

    async def get(self, record_id: str) -> Record:
        """A record, as `RecordStore` says."""
        return (await self._find(record_id))[0]

    async def put(self, record: Record, *, expected: int, also: Also | None = None) -> None:
        """Keep a record, as `RecordStore` says."""
        name = name_of(record.id)
        if record.version <= max(expected, 0):
            raise ValueError("the version of a change is higher than the one that it was decided on")
        tag: str | None = None
        try:
            before, tag = await self._find(record.id)
        except RecordNotFoundError:
            if expected:
                raise RecordConflictError(record.id, 0) from None
        else:
            if before.version != expected or replace(record.context(), version=expected) != before.context():
                raise RecordConflictError(record.id, before.version)
        await self._apply(record.id, Change(name, document_of(record), tag))
        await self._do(also)

    async def delete(self, record_id: str, *, expected: int, also: Also | None = None) -> None:
        """Forget a record, as `RecordStore` says."""
        before, tag = await self._find(record_id)
        if before.version != expected:
            raise RecordConflictError(record_id, before.version)
        await self._apply(record_id, Change(name_of(record_id), None, tag))
        await self._do(also)

    async def list(
        self, *, limit: int, after: str | None = None, team: TeamId | None = None, user: str | None = None
    ) -> Sequence[Record]:
        """Records in the order of their ids, as `RecordStore` says; for those of a team, all are read."""
        await self._documents.refresh()
        ids = sorted(_ids(await self._documents.names(RECORDS)))
        ids = [each for each in ids if after is None or each > after]
        found: list[Record] = []
        while ids and len(found) < limit:
            page, ids = ids[:limit], ids[limit:]
            documents = await self._documents.read_many([name_of(each) for each in page])
            for record_id in page:
                document = documents.get(name_of(record_id))
                if document is not None and _fits(record := self._record(record_id, document), team, user):
                    found.append(record)
        return found[:limit]

    async def health(self) -> StoreHealth:
        """How the store is, as `RecordStore` says."""
        try:
            await self._documents.refresh()
        except CustodyError as exc:
            return StoreHealth(store=self.name, ok=False, detail=exc.detail)
        return StoreHealth(store=self.name, ok=True, detail=self._documents.destination)

    async def _find(self, record_id: str) -> tuple[Record, str]:
        name = name_of(record_id)
        await self._documents.refresh()
        document = await self._documents.read(name)
        if document is None:
            raise RecordNotFoundError(f"there is no record {record_id}")
        return self._record(record_id, document), document.tag

    def _record(self, record_id: str, document: Document) -> Record:
        record = record_in(document.content)
        if record is None or record.id != record_id:
            raise DestinationAlteredError(f"{name_of(record_id)} at {self._documents.destination} is not that record")
        return record

    async def _apply(self, record_id: str, change: Change) -> None:
        try:
            await self._documents.apply([change])
        except DocumentConflictError:
            try:
                current = (await self._find(record_id))[0].version
            except RecordNotFoundError:
                current = 0
            raise RecordConflictError(record_id, current) from None

    async def _do(self, also: Also | None) -> None:
        if also is not None:
            if self._database is None:
                raise HomeportError("a record store without a database cannot do more than keep records")
            await self._database.write(also)


def _ids(names: Sequence[str]) -> Sequence[str]:
    """The ids of records among names; what is no record's is left out."""
    found = []
    for name in names:
        record_id = name.removeprefix(RECORDS).removesuffix(".json")
        try:
            check_record_id(record_id)
        except CustodyError:
            continue
        if name == name_of(record_id):
            found.append(record_id)
    return found


def _fits(record: Record, team: TeamId | None, user: str | None) -> bool:
    return team in (None, record.team) and user in (None, record.user)
