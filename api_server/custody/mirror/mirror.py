"""One mirror: it proves the destination, sends what the destination lacks, and believes only what was acknowledged.

    prove      the settings name the place that was pinned; the place shows our marker; its manifest is the newest one
               that we know. Otherwise nothing is sent, and the error says why (C4, C5, C7).
    guard      a sync that would delete more than a fifth of the copies stops and asks (C4)
    batches    up to 100 records and the next manifest in one `apply`: an intent is kept before, what was acknowledged
               after it. A process that dies in between leaves an intent, by which the next one sees what was done.

Nothing is ever deleted because it is missing here: a deletion is a row that says so. So an empty or older database, or
an empty clone, deletes nothing; when the destination has more than it, that is an error that somebody looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.documents.interfaces import RECORDS, Change, Document, Documents, name_of
from api_server.custody.errors import (
    CustodyError,
    DeletionHeldError,
    DestinationAheadError,
    DestinationAlteredError,
    DestinationChangedError,
    DestinationUnprovenError,
    DocumentConflictError,
    StoreUnavailableError,
)
from api_server.custody.mirror.exclusive import exclusive
from api_server.custody.mirror.ledger import ACTIVE, Copy, MirrorLedger, Pending, Pinned
from api_server.custody.mirror.statements import MANIFEST, MARKER, Entry, Manifest, Marker, Signer
from api_server.custody.records import Record, digest_of, document_of, record_in
from api_server.db.database import Database
from api_server.leases.interfaces import Lease, Leases
from common.clock import Clock
from common.crypto.envelope import Envelope
from common.crypto.errors import SealError

__all__ = ["Mirror", "Progress", "Synced"]

Progress = Callable[[int, int], None]
"""Told how many of how many are done."""

_BATCH = 100
"""Records in one `apply`: a commit, or a transaction."""

_SHARE = 0.2
"""Of the copies, that one sync may delete without asking; a single one is always allowed."""

_RECONCILIATIONS = 3
"""In one batch; each is after somebody, or an earlier process of ours, has changed what is there."""


@dataclass(frozen=True, slots=True)
class Synced:
    """What came of a sync."""

    sent: int
    deleted: int


@dataclass(frozen=True, slots=True)
class _State:
    """What is known to be there."""

    number: int
    digest: str
    tag: str | None
    """Of the manifest's document."""


class Mirror:
    """Keeps one destination as the database is.

    Args:
        documents: at the destination.
        database: the truth.
        envelope: opens what is there, to know it for ours.
        leases: so that one process at a time does this.
        clock: wall time.
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
        batch: int = _BATCH,
    ) -> None:
        self._documents = documents
        self._database = database
        self._envelope = envelope
        self._leases = leases
        self._clock = clock
        self._batch = batch
        self._ledger = MirrorLedger(documents.name)
        self._opened = False

    @property
    def name(self) -> str:
        """Of its kind of destination."""
        return self._documents.name

    @property
    def destination(self) -> str:
        """Where it is."""
        return self._documents.destination

    async def close(self) -> None:
        """Leave nothing open."""
        await self._documents.close()

    async def sync(self, progress: Progress = lambda _done, _total: None, *, patience: float = 0.0) -> Synced:
        """Send what the destination lacks.

        Args:
            progress: told how far it is.
            patience: seconds to wait for another process that is at it.

        Raises:
            StoreBusyError: another process is at it.
            CustodyError: it cannot be reached, refuses, or must not be used; nothing is lost.
            LeaseLostError: another process has taken over.
        """
        async with exclusive(self._leases, self._documents, patience=patience) as lease:
            await self._note(attempted_at=self._clock.wall())
            try:
                state = await self._prove(lease)
                await self._guard()
                return await self._send(lease, state, progress)
            except (CustodyError, SealError) as exc:
                code, detail, now = exc.code, exc.detail, self._clock.wall()
                await self._database.write(lambda tx: self._ledger.note_problem(tx, code, detail, now))
                raise

    async def allow_deletions(self) -> int:
        """Let the deletions that are waiting now through, in the next sync; gives their number."""
        drift = await self._database.read(self._ledger.drift)
        await self._note(allowed_deletions=drift.deletions)
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
        async with exclusive(self._leases, self._documents, patience=patience) as lease:
            await self._documents.forget()
            await self._documents.open()
            await self._documents.refresh()
            found = await self._documents.read(MARKER)
            names = await self._documents.names(RECORDS)
            marker = None if found is None else self._signer.read(found.content, Marker)
            if marker is None and names:
                raise DestinationUnprovenError(f"{self.destination} holds records, and no marker of this installation")
            ids = [name.removeprefix(RECORDS).removesuffix(".json") for name in names]
            known = await self._database.read(lambda tx: self._ledger.local(tx, ids))
            unknown = len(set(ids) - known.keys())
            if unknown and not discard:
                raise self._ahead(unknown)
            if marker is None or marker.destination != self.destination:
                await self._mark(found)
            manifest, document = await self._manifest()
            number, digest = (0, "") if manifest is None else (manifest.number, digest_of(document.content))
            there = await self._documents.read_many(names)
            copies = [
                # Revision 0: everything is to be sent anew.
                Copy(record_id, version, 0, digest_of(there[name].content), there[name].tag)
                for record_id, name in zip(ids, names, strict=True)
                if name in there and (version := known.get(record_id, (None, 0, 0))[1])
            ]

            async def work(tx: AsyncConnection) -> None:
                await self._leases.check(tx, lease)
                await self._ledger.forget(tx)
                await self._ledger.pin(tx, self.destination, self._clock.wall(), number=number, digest=digest)
                await self._ledger.acknowledge(tx, copies, self._clock.wall())

            await self._database.write(work)

    # Proof.

    @property
    def _signer(self) -> Signer:
        return Signer(self._envelope.keyring)

    async def _prove(self, lease: Lease) -> _State:
        """Find out whether the destination is the one, and is as it was left."""
        pinned = await self._database.read(self._ledger.pinned)
        if pinned is not None and pinned.destination != self.destination:
            raise DestinationChangedError(
                f"the settings name {self.destination}, but {pinned.destination} is what was pinned; "
                f"`homeport custody adopt {self.name}` pins the new one"
            )
        if pinned is not None and pinned.state != ACTIVE:
            raise DestinationAheadError(
                f"records are being restored from {self.destination}; `homeport custody restore {self.name}` goes on"
            )
        if not self._opened:
            await self._documents.open()
            self._opened = True
        await self._documents.refresh()
        found = await self._documents.read(MARKER)
        if pinned is None:
            return await self._take(lease, found)
        marker = None if found is None else self._signer.read(found.content, Marker)
        if marker is None or marker.destination != self.destination:
            raise DestinationUnprovenError(
                f"{self.destination} does not show the marker that this installation has left there"
            )
        return await self._compare(lease, pinned)

    async def _take(self, lease: Lease, found: Document | None) -> _State:
        """Pin a destination that was never used, or that this installation has used and holds nothing."""
        names = await self._documents.names(RECORDS)
        marker = None if found is None else self._signer.read(found.content, Marker)
        if marker is None and (names or found is not None or await self._documents.read(MANIFEST) is not None):
            raise DestinationUnprovenError(
                f"{self.destination} is neither empty nor marked by this installation; name another place"
            )
        if names:
            raise self._ahead(len(names))
        if marker is None or marker.destination != self.destination:
            await self._mark(found)
        manifest, document = await self._manifest()
        number, digest = (0, "") if manifest is None else (manifest.number, digest_of(document.content))
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> None:
            await self._leases.check(tx, lease)
            await self._ledger.pin(tx, self.destination, now, number=number, digest=digest)

        await self._database.write(work)
        return _State(number, digest, None if manifest is None else document.tag)

    async def _mark(self, before: Document | None) -> None:
        marker = Marker(
            installation=self._signer.installation, destination=self.destination, made_at=self._clock.wall()
        )
        change = Change(MARKER, self._signer.sign(marker), None if before is None else before.tag)
        await self._documents.apply([change])

    async def _manifest(self) -> tuple[Manifest | None, Document]:
        """The manifest that is there, and its document.

        Raises:
            DestinationAlteredError: it is not signed by this installation, or was made for another place.
        """
        document = await self._documents.read(MANIFEST)
        if document is None:
            return None, Document(b"", "")
        manifest = self._signer.read(document.content, Manifest)
        if manifest is None or manifest.destination != self.destination:
            raise DestinationAlteredError(f"the manifest at {self.destination} is not signed by this installation")
        return manifest, document

    async def _compare(self, lease: Lease, pinned: Pinned) -> _State:
        """The manifest that is there must be the one that we know, or the one that we were about to write."""
        manifest, document = await self._manifest()
        number, digest = (0, "") if manifest is None else (manifest.number, digest_of(document.content))
        tag = None if manifest is None else document.tag
        if (number, digest) == (pinned.manifest_number, pinned.manifest_digest):
            return _State(number, digest, tag)
        if manifest is not None and (number, digest) == (pinned.next_number, pinned.next_digest):
            await self._catch_up(lease, manifest, digest)
            return _State(number, digest, tag)
        if number > pinned.manifest_number:
            raise DestinationAheadError(
                f"the manifest at {self.destination} has number {number}, this database knows "
                f"{pinned.manifest_number}: this is an older backup, or something else writes there with this keyring"
            )
        what = "is gone" if manifest is None else f"has number {number}"
        raise DestinationAlteredError(
            f"the manifest at {self.destination} {what}, where number {pinned.manifest_number} was left: "
            "it was altered, or an older state was put back"
        )

    async def _catch_up(self, lease: Lease, manifest: Manifest, digest: str) -> None:
        """Acknowledge what an earlier process has written and could not acknowledge any more."""
        known = await self._database.read(self._ledger.entries)
        changed = [each for each, entry in manifest.records.items() if known.get(each) != entry]
        there = await self._documents.read_many([name_of(each) for each in changed])
        local = await self._database.read(lambda tx: self._ledger.local(tx, changed))
        copies = [Copy(each, 0, 0, None, "") for each in known if each not in manifest.records]
        for each in changed:
            entry, document = manifest.records[each], there.get(name_of(each))
            if document is None or digest_of(document.content) != entry.digest:
                raise DestinationAlteredError(f"{name_of(each)} at {self.destination} is not what the manifest says")
            record, _, revision = local.get(each, (None, 0, 0))
            same = record is not None and digest_of(document_of(record)) == entry.digest
            copies.append(Copy(each, entry.version, revision if same else 0, entry.digest, document.tag))
        await self._acknowledge(lease, copies, manifest.number, digest)

    async def _guard(self) -> None:
        drift = await self._database.read(self._ledger.drift)
        pinned = await self._database.read(self._ledger.pinned)
        allowed = 0 if pinned is None or pinned.allowed_deletions is None else pinned.allowed_deletions
        if drift.deletions > max(1, _SHARE * drift.copies, allowed):
            raise DeletionHeldError(
                f"{drift.deletions} of the {drift.copies} records at {self.destination} would be deleted; "
                f"`homeport custody sync {self.name} --allow-deletions` lets it, once somebody has looked"
            )

    # Sending.

    async def _send(self, lease: Lease, state: _State, progress: Progress) -> Synced:
        drift = await self._database.read(self._ledger.drift)
        total = drift.changes + drift.deletions
        entries = await self._database.read(self._ledger.entries)
        sent = deleted = 0
        while pending := await self._database.read(lambda tx: self._ledger.pending(tx, self._batch)):
            state = await self._send_batch(lease, state, entries, pending)
            deleted += sum(each.record is None for each in pending)
            sent += sum(each.record is not None for each in pending)
            total = max(total, sent + deleted)
            progress(sent + deleted, total)
        if total == 0:
            progress(0, 0)
        await self._note(problem=None, problem_detail=None, allowed_deletions=None)
        return Synced(sent, deleted)

    async def _send_batch(
        self, lease: Lease, state: _State, entries: dict[str, Entry], pending: Sequence[Pending]
    ) -> _State:
        """Send a batch, and have `entries` say what is there then."""
        contents = {each.record_id: None if each.record is None else document_of(each.record) for each in pending}
        for each in pending:
            content = contents[each.record_id]
            if content is None:
                entries.pop(each.record_id, None)
            else:
                entries[each.record_id] = Entry(each.version, digest_of(content))
        signer = self._signer
        manifest = Manifest(
            installation=signer.installation,
            destination=self.destination,
            number=state.number + 1,
            previous=state.digest,
            made_at=self._clock.wall(),
            records=dict(sorted(entries.items())),
        )
        document = signer.sign(manifest)
        digest = digest_of(document)
        await self._intend(lease, manifest.number, digest)
        tags = {each.record_id: each.tag for each in pending}
        for remaining in reversed(range(_RECONCILIATIONS)):
            # What is as it should be already is left out: an earlier process has come that far.
            wanted = [
                each for each in pending if tags[each.record_id] is not None or contents[each.record_id] is not None
            ]
            changes = [
                Change(name_of(each.record_id), contents[each.record_id], tags[each.record_id]) for each in wanted
            ]
            try:
                applied = await self._documents.apply([*changes, Change(MANIFEST, document, state.tag)])
                break
            except DocumentConflictError:
                if not remaining:
                    raise
                tags |= await self._reconcile(pending, state)
        new = {each.record_id: tag for each, tag in zip(wanted, applied, strict=False)}
        copies = [
            Copy(each.record_id, each.version, each.revision, None if content is None else digest_of(content), tag)
            for each in pending
            for content, tag in ((contents[each.record_id], new.get(each.record_id, "")),)
        ]
        await self._acknowledge(lease, copies, manifest.number, digest)
        return _State(manifest.number, digest, applied[-1])

    async def _reconcile(self, pending: Sequence[Pending], state: _State) -> dict[str, str | None]:
        """The tags that the documents of a batch have now, after one was not as expected.

        What is there must be ours all the same, from a sync that was cut before its manifest: the manifest is as it
        was, and each document holds a record that this installation has sealed, no newer than here.
        """
        await self._documents.refresh()
        manifest = await self._documents.read(MANIFEST)
        if (None if manifest is None else manifest.tag) != state.tag:
            raise StoreUnavailableError(f"something else writes to {self.destination}; the next sync looks at it anew")
        there = await self._documents.read_many([name_of(each.record_id) for each in pending])
        tags: dict[str, str | None] = {}
        for each in pending:
            document = there.get(name_of(each.record_id))
            tags[each.record_id] = None if document is None else document.tag
            if document is not None and not self._is_ours(each, document):
                raise DestinationAlteredError(
                    f"{name_of(each.record_id)} at {self.destination} is not what was left there"
                )
        return tags

    def _is_ours(self, pending: Pending, document: Document) -> bool:
        record = record_in(document.content)
        if record is None or record.id != pending.record_id or record.version > pending.version:
            return False
        return self._opens(record)

    def _opens(self, record: Record) -> bool:
        try:
            self._envelope.open(record.sealed, record.context())
        except SealError:
            return False
        return True

    async def _intend(self, lease: Lease, number: int, digest: str) -> None:
        async def work(tx: AsyncConnection) -> None:
            await self._leases.check(tx, lease)
            await self._ledger.change(tx, next_number=number, next_digest=digest)

        await self._database.write(work)

    async def _acknowledge(self, lease: Lease, copies: Sequence[Copy], number: int, digest: str) -> None:
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> None:
            await self._leases.check(tx, lease)
            await self._ledger.acknowledge(tx, copies, now)
            await self._ledger.change(
                tx,
                manifest_number=number,
                manifest_digest=digest,
                next_number=None,
                next_digest=None,
                acknowledged_at=now,
            )

        await self._database.write(work)

    async def _note(self, **values: object) -> None:
        await self._database.write(lambda tx: self._ledger.change(tx, **values))

    def _ahead(self, number: int) -> DestinationAheadError:
        return DestinationAheadError(
            f"{self.destination} holds {number} records that this database has not; "
            f"`homeport custody restore {self.name}` brings them into an empty one"
        )
