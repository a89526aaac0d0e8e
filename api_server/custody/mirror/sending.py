"""Sends a destination what it lacks, in batches, once it is proven.

A batch is up to 100 records and the next manifest in one `apply`: an intent is kept before, what was acknowledged after
it. A process that dies in between leaves an intent, by which the next one sees what was done.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.documents.interfaces import Change, Document, name_of
from api_server.custody.errors import DestinationAlteredError, DocumentConflictError, StoreUnavailableError
from api_server.custody.mirror.ledger import Copy, Pending
from api_server.custody.mirror.site import Progress, Site, State
from api_server.custody.mirror.statements import MANIFEST, Entry, Manifest
from api_server.custody.records import digest_of, document_of, record_in
from api_server.leases.interfaces import Lease

__all__ = ["Sending"]

_RECONCILIATIONS = 3
"""In one batch; each is after somebody, or an earlier process of ours, has changed what is there."""


class Sending:
    """Sends to one destination.

    Args:
        site: the destination.
        batch: records in one `apply`.
    """

    def __init__(self, site: Site, *, batch: int) -> None:
        self._site = site
        self._batch = batch

    async def send(self, lease: Lease, state: State, progress: Progress) -> tuple[int, int]:
        """Send everything that it lacks.

        Returns:
            How many records were sent, and how many deleted.
        """
        site = self._site
        drift = await site.database.read(site.ledger.drift)
        total = drift.changes + drift.deletions
        entries = await site.database.read(site.ledger.entries)
        sent = deleted = 0
        while pending := await site.database.read(lambda tx: site.ledger.pending(tx, self._batch)):
            state = await self._send_batch(lease, state, entries, pending)
            deleted += sum(each.record is None for each in pending)
            sent += sum(each.record is not None for each in pending)
            total = max(total, sent + deleted)
            progress(sent + deleted, total)
        if total == 0:
            progress(0, 0)
        await site.note(problem=None, problem_detail=None, allowed_deletions=None)
        return sent, deleted

    async def _send_batch(
        self, lease: Lease, state: State, entries: dict[str, Entry], pending: Sequence[Pending]
    ) -> State:
        """Send a batch, and have `entries` say what is there then."""
        site = self._site
        contents = {each.record_id: None if each.record is None else document_of(each.record) for each in pending}
        for each in pending:
            content = contents[each.record_id]
            if content is None:
                entries.pop(each.record_id, None)
            else:
                entries[each.record_id] = Entry(each.version, digest_of(content))
        signer = site.signer
        manifest = Manifest(
            installation=signer.installation,
            destination=site.destination,
            number=state.number + 1,
            previous=state.digest,
            made_at=site.clock.wall(),
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
                applied = await site.documents.apply([*changes, Change(MANIFEST, document, state.tag)])
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
        await site.acknowledge(lease, copies, manifest.number, digest)
        return State(manifest.number, digest, applied[-1])

    async def _reconcile(self, pending: Sequence[Pending], state: State) -> dict[str, str | None]:
        """The tags that the documents of a batch have now, after one was not as expected.

        What is there must be ours all the same, from a sync that was cut before its manifest: the manifest is as it
        was, and each document holds a record that this installation has sealed, no newer than here.
        """
        site = self._site
        await site.documents.refresh()
        manifest = await site.documents.read(MANIFEST)
        if (None if manifest is None else manifest.tag) != state.tag:
            raise StoreUnavailableError(f"something else writes to {site.destination}; the next sync looks at it anew")
        there = await site.documents.read_many([name_of(each.record_id) for each in pending])
        tags: dict[str, str | None] = {}
        for each in pending:
            document = there.get(name_of(each.record_id))
            tags[each.record_id] = None if document is None else document.tag
            if document is not None and not self._is_ours(each, document):
                raise DestinationAlteredError(
                    f"{name_of(each.record_id)} at {site.destination} is not what was left there"
                )
        return tags

    def _is_ours(self, pending: Pending, document: Document) -> bool:
        record = record_in(document.content)
        if record is None or record.id != pending.record_id or record.version > pending.version:
            return False
        return self._site.opens(record)

    async def _intend(self, lease: Lease, number: int, digest: str) -> None:
        site = self._site

        async def work(tx: AsyncConnection) -> None:
            await site.leases.check(tx, lease)
            await site.ledger.change(tx, next_number=number, next_digest=digest)

        await site.database.write(work)
