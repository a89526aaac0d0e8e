"""Is what is kept as it was left, here and there? Every record is opened, and every document compared.

What is found is told, and nothing is changed. A record that the mirror has not been told of yet is no finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from api_server.custody.database import DatabaseRecordStore
from api_server.custody.documents.interfaces import RECORDS, Document, Documents, name_of
from api_server.custody.errors import CustodyError
from api_server.custody.mirror.exclusive import exclusive
from api_server.custody.mirror.ledger import MirrorLedger, Pinned
from api_server.custody.mirror.mirror import Progress
from api_server.custody.mirror.statements import MANIFEST, MARKER, Entry, Manifest, Marker, Signer
from api_server.custody.records import Record, digest_of, document_of, record_in
from api_server.db.database import Database
from api_server.leases.interfaces import Leases
from common.clock import Clock
from common.crypto.envelope import Envelope
from common.crypto.errors import KeyMissingError, SealError

__all__ = ["Finding", "Problem", "Report", "verify_database", "verify_mirror"]

_PAGE = 200
"""Records read at a time."""


class Problem(StrEnum):
    """What may be found."""

    DOES_NOT_OPEN = "does_not_open"
    """A record was altered, moved, or is an older version."""
    KEY_MISSING = "key_missing"
    MISSING = "missing"
    """The manifest names a record that is not there."""
    ALTERED = "altered"
    """A record is not the one that the manifest names."""
    UNEXPECTED = "unexpected"
    """There is a record that the manifest does not name."""
    UNPROVEN = "unproven"
    """The marker is not there, or not ours."""
    MANIFEST_ALTERED = "manifest_altered"
    ROLLED_BACK = "rolled_back"
    """The manifest is an older one."""
    AHEAD = "ahead"
    """The manifest is a newer one than this database knows."""
    UNREACHABLE = "unreachable"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be."""

    problem: Problem
    record: str | None
    """Id of the record; None where it is about the whole."""
    detail: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and found."""

    where: str
    """`database`, or the name of a mirror."""
    destination: str
    records: int
    findings: list[Finding]

    @property
    def intact(self) -> bool:
        return not self.findings


async def verify_database(database: Database, envelope: Envelope, clock: Clock, progress: Progress) -> Report:
    """Open every record of the database."""
    store = DatabaseRecordStore(database, clock)
    findings: list[Finding] = []
    count, after = 0, None
    while page := await store.list(limit=_PAGE, after=after):
        after = page[-1].id
        count += len(page)
        findings += [finding for record in page if (finding := _open(envelope, record)) is not None]
        progress(count, count)
    return Report(where="database", destination=database.name, records=count, findings=findings)


async def verify_mirror(
    documents: Documents,
    database: Database,
    envelope: Envelope,
    leases: Leases,
    progress: Progress,
    *,
    patience: float = 0.0,
) -> Report:
    """Compare everything at a destination with its manifest, and that with what this database knows.

    Raises:
        StoreBusyError: another process is at it, for longer than `patience`.
    """
    async with exclusive(leases, documents, patience=patience):
        verification = _Verification(documents, database, envelope, progress)
        try:
            await verification.run()
        except CustodyError as exc:
            verification.find(Problem.UNREACHABLE, None, exc.detail)
        return Report(
            where=documents.name,
            destination=documents.destination,
            records=verification.records,
            findings=verification.findings,
        )


class _Verification:
    def __init__(self, documents: Documents, database: Database, envelope: Envelope, progress: Progress) -> None:
        self._documents = documents
        self._database = database
        self._envelope = envelope
        self._progress = progress
        self._signer = Signer(envelope.keyring)
        self._ledger = MirrorLedger(documents.name)
        self.findings: list[Finding] = []
        self.records = 0

    def find(self, problem: Problem, record: str | None, detail: str) -> None:
        self.findings.append(Finding(problem=problem, record=record, detail=detail))

    async def run(self) -> None:
        await self._documents.open()
        await self._documents.refresh()
        marker = await self._documents.read(MARKER)
        shown = None if marker is None else self._signer.read(marker.content, Marker)
        if shown is None or shown.destination != self._documents.destination:
            self.find(Problem.UNPROVEN, None, "the marker is not there, or this installation has not left it there")
        pinned = await self._database.read(self._ledger.pinned)
        entries = self._manifest(await self._documents.read(MANIFEST), pinned)
        names = set(await self._documents.names(RECORDS))
        for record_id in sorted(entries):
            if name_of(record_id) not in names:
                self.find(Problem.MISSING, record_id, "the manifest names it, and it is not there")
        expected = {name_of(record_id): record_id for record_id in entries}
        for name in sorted(names - expected.keys()):
            self.find(Problem.UNEXPECTED, None, f"the manifest does not name {_shown(name)}")
        there = sorted(names & expected.keys())
        for start in range(0, len(there), _PAGE):
            page = there[start : start + _PAGE]
            await self._compare([expected[name] for name in page], entries)
            self.records += len(page)
            self._progress(self.records, len(there))

    def _manifest(self, document: Document | None, pinned: Pinned | None) -> dict[str, Entry]:
        known = 0 if pinned is None else pinned.manifest_number
        if document is None:
            if known:
                self.find(Problem.MANIFEST_ALTERED, None, f"the manifest is gone; number {known} was left")
            return {}
        manifest = self._signer.read(document.content, Manifest)
        if manifest is None or manifest.destination != self._documents.destination:
            self.find(Problem.MANIFEST_ALTERED, None, "the manifest is not signed by this installation for this place")
            return {}
        if pinned is not None and (manifest.number, digest_of(document.content)) not in (
            (pinned.manifest_number, pinned.manifest_digest),
            (pinned.next_number, pinned.next_digest),
        ):
            if manifest.number < known:
                detail = f"the manifest has number {manifest.number}, and number {known} was left"
                self.find(Problem.ROLLED_BACK, None, detail)
            else:
                detail = f"the manifest has number {manifest.number}, and this database knows {known}"
                self.find(Problem.AHEAD, None, detail)
        return manifest.records

    async def _compare(self, ids: Sequence[str], entries: dict[str, Entry]) -> None:
        documents = await self._documents.read_many([name_of(each) for each in ids])
        local = await self._database.read(lambda tx: self._ledger.local(tx, ids))
        for record_id in ids:
            document = documents.get(name_of(record_id))
            if document is None:
                self.find(Problem.MISSING, record_id, "it went away while it was looked at")
                continue
            record = record_in(document.content)
            here = local.get(record_id, (None, 0, 0))[0]
            if here is not None and document.content == document_of(here):
                continue  # newer than the manifest, from a sync that was cut; or as the manifest says. Ours either way
            if digest_of(document.content) != entries[record_id].digest or record is None or record.id != record_id:
                self.find(Problem.ALTERED, record_id, "it is not what the manifest names")
            elif (finding := _open(self._envelope, record)) is not None:
                self.findings.append(finding)


def _open(envelope: Envelope, record: Record) -> Finding | None:
    try:
        envelope.open(record.sealed, record.context())
    except KeyMissingError as exc:
        return Finding(problem=Problem.KEY_MISSING, record=record.id, detail=exc.detail)
    except SealError as exc:
        return Finding(problem=Problem.DOES_NOT_OPEN, record=record.id, detail=exc.detail)
    return None


def _shown(name: str) -> str:
    """A name that somebody else may have chosen, for a line of output."""
    return "".join(character if character.isprintable() else "?" for character in name)[:160]
