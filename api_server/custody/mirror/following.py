"""Takes what is newer at the primary into the database, which is a copy of it: one that came back from an older backup,
one that is empty, or one that another database has gone past.

A manifest that this installation has signed, with a higher number than the one that is known here, is believed. Of
each record the higher version counts:

    there        here                             what becomes of it
    ───────────  ───────────────────────────────  ──────────────────────────────────────────────────────────────
    a version    none, or as high, or lower       taken; of two with one number the primary's counts
    a version    higher, or deleted since         ours stays, and is sent
    no more      the version that it had there    deleted here, too
    no more      another version                  ours stays, and is sent
    never        any                              ours stays, and is sent

It is done in batches, under the lease of the destination, and what was taken is acknowledged with it: a process that
dies on the way leaves the old number, and the next one goes on with what is still missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.database import bury, overwrite
from api_server.custody.documents.interfaces import Document
from api_server.custody.mirror.ledger import Copy
from api_server.custody.mirror.site import Progress, Site, State
from api_server.custody.mirror.statements import Entry, Manifest
from api_server.custody.records import Record, digest_of
from api_server.leases.interfaces import Lease

__all__ = ["Following"]


class Following:
    """Follows one primary.

    Args:
        site: the primary.
        batch: records in one transaction.
    """

    def __init__(self, site: Site, *, batch: int) -> None:
        self._site = site
        self._batch = batch

    async def follow(self, lease: Lease, manifest: Manifest, state: State, progress: Progress) -> int:
        """Take everything that is newer.

        Args:
            lease: on the primary.
            manifest: that is there.
            state: the same, as it will be known.
            progress: told how far it is.

        Returns:
            How many records and deletions were looked at because the manifest has them otherwise.

        Raises:
            DestinationAlteredError: a document is not what the manifest names.
            SealError: one does not open, or the keyring lacks its key.
        """
        site = self._site
        known = await site.database.read(site.ledger.entries)
        changed = sorted(each for each, entry in manifest.records.items() if known.get(each) != entry)
        gone = sorted(known.keys() - manifest.records.keys())
        done, total = 0, len(changed) + len(gone)
        for start in range(0, len(changed), self._batch):
            batch = changed[start : start + self._batch]
            await self._take(lease, await site.proven(batch, manifest.records), manifest.records)
            done += len(batch)
            progress(done, total)
        for start in range(0, len(gone), self._batch):
            batch = gone[start : start + self._batch]
            await self._let_go(lease, batch, known)
            done += len(batch)
            progress(done, total)
        await site.acknowledge(lease, [], state.number, state.digest)
        return total

    async def _take(self, lease: Lease, found: Sequence[tuple[Record, Document]], entries: Mapping[str, Entry]) -> None:
        site = self._site

        async def work(tx: AsyncConnection) -> None:
            await site.leases.check(tx, lease)
            local = await site.ledger.local(tx, [record.id for record, _ in found])
            copies = []
            for record, document in found:
                here, version, revision = local.get(record.id, (None, 0, 0))
                if version > record.version:
                    revision = 0  # no revision that a record has: ours is still to be sent
                elif here != record:
                    revision += 1
                    await overwrite(tx, record, revision)
                digest = digest_of(document.content)
                if digest != entries[record.id].digest:
                    revision = 0  # newer than the manifest: the next one is to name it
                copies.append(Copy(record.id, record.version, revision, digest, document.tag))
            await site.ledger.acknowledge(tx, copies, site.clock.wall())

        await site.database.write(work)

    async def _let_go(self, lease: Lease, ids: Sequence[str], known: Mapping[str, Entry]) -> None:
        site = self._site

        async def work(tx: AsyncConnection) -> None:
            await site.leases.check(tx, lease)
            local = await site.ledger.local(tx, ids)
            unchanged = [
                each
                for each, (here, version, _) in local.items()
                if here is not None and version == known[each].version
            ]
            await bury(tx, unchanged, site.clock.wall())
            await site.ledger.acknowledge(tx, [Copy(each, 0, 0, None, "") for each in ids], site.clock.wall())

        await site.database.write(work)
