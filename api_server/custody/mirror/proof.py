"""Is a destination the one that was pinned, and is it as it was left? Before that is known nothing is sent (C5, C7).

never pinned      empty, or marked by us and without records: it is marked and pinned
pinned            the settings name it, it shows our marker, and its manifest is the newest one that we know, or the
                  one that we were about to write
newer than that   a mirror stops; of the primary it is taken (`following`)
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.documents.interfaces import RECORDS, Change, Document, name_of
from api_server.custody.errors import (
    DestinationAheadError,
    DestinationAlteredError,
    DestinationChangedError,
    DestinationUnprovenError,
)
from api_server.custody.mirror.following import Following
from api_server.custody.mirror.ledger import ACTIVE, Copy, Pinned
from api_server.custody.mirror.site import Progress, Site, State, nothing_told
from api_server.custody.mirror.statements import MANIFEST, MARKER, Manifest, Marker
from api_server.custody.records import digest_of, document_of, record_in
from api_server.leases.interfaces import Lease

__all__ = ["Proof", "ahead", "mark"]


class Proof:
    """Proves one destination.

    Args:
        site: the destination.
        following: takes what is newer there; None for a mirror, where that is an error.
    """

    def __init__(self, site: Site, following: Following | None) -> None:
        self._site = site
        self._following = following
        self._opened = False

    async def prove(self, lease: Lease, taking: Progress) -> tuple[State, int]:
        """Find out what is there.

        Args:
            lease: on the destination.
            taking: told how many newer records of how many are taken.

        Returns:
            What is there, and how many records and deletions were taken from it.

        Raises:
            DestinationError: nothing is to be sent there.
            CustodyError: it cannot be reached, or refuses.
        """
        site = self._site
        pinned = await site.database.read(site.ledger.pinned)
        if pinned is not None and pinned.destination != site.destination:
            raise DestinationChangedError(
                f"the settings name {site.destination}, but {pinned.destination} is what was pinned; "
                f"`homeport custody adopt {site.documents.name}` pins the new one"
            )
        if pinned is not None and pinned.state != ACTIVE:
            raise DestinationAheadError(
                f"records are being restored from {site.destination}; "
                f"`homeport custody restore {site.documents.name}` goes on"
            )
        if not self._opened:
            await site.documents.open()
            self._opened = True
        await site.documents.refresh()
        marker, found = await site.marker()
        if pinned is None:
            return await self._take(lease, marker, found, taking)
        if marker is None or marker.destination != site.destination:
            raise DestinationUnprovenError(
                f"{site.destination} does not show the marker that this installation has left there"
            )
        return await self._compare(lease, pinned, taking)

    async def _take(
        self, lease: Lease, marker: Marker | None, found: Document | None, taking: Progress
    ) -> tuple[State, int]:
        """Pin a destination that was never used, or that this installation has used and holds nothing; or the primary,
        as whose copy this database begins.
        """
        site = self._site
        names = await site.documents.names(RECORDS)
        if marker is None and (names or found is not None or await site.documents.read(MANIFEST) is not None):
            raise DestinationUnprovenError(
                f"{site.destination} is neither empty nor marked by this installation; name another place"
            )
        if names and (self._following is None or marker is None or marker.destination != site.destination):
            raise ahead(site, len(names))
        if marker is None or marker.destination != site.destination:
            await mark(site, found)
        manifest, state = await site.manifest()
        follows = self._following is not None and bool(names)
        if follows and manifest is None:
            raise DestinationAlteredError(f"{site.destination} holds records, and no manifest that names them")
        # What is about to be taken is not known yet: a process that dies meanwhile leaves that it is to be taken.
        known = State(0, "", None) if follows else state

        async def work(tx: AsyncConnection) -> None:
            await site.leases.check(tx, lease)
            await site.ledger.pin(tx, site.destination, site.clock.wall(), number=known.number, digest=known.digest)

        await site.database.write(work)
        if self._following is None or not follows or manifest is None:
            return state, 0
        return state, await self._following.follow(lease, manifest, state, taking)

    async def _compare(self, lease: Lease, pinned: Pinned, taking: Progress) -> tuple[State, int]:
        """The manifest that is there must be the one that we know, or the one that we were about to write."""
        site = self._site
        manifest, state = await site.manifest()
        if (state.number, state.digest) == (pinned.manifest_number, pinned.manifest_digest):
            if pinned.next_number is not None and not site.documents.is_atomic:
                await self._find_leftovers(lease, state)
            return state, 0
        if manifest is not None and (state.number, state.digest) == (pinned.next_number, pinned.next_digest):
            if self._following is None:
                await self._catch_up(lease, manifest, state)
            else:  # the same, and what another database has half sent since then
                await self._following.follow(lease, manifest, state, nothing_told)
            return state, 0
        if manifest is not None and state.number > pinned.manifest_number:
            if self._following is not None:
                return state, await self._following.follow(lease, manifest, state, taking)
            raise DestinationAheadError(
                f"the manifest at {site.destination} has number {state.number}, this database knows "
                f"{pinned.manifest_number}: this is an older backup, or something else writes there with this keyring"
            )
        what = "is gone" if manifest is None else f"has number {state.number}"
        raise DestinationAlteredError(
            f"the manifest at {site.destination} {what}, where number {pinned.manifest_number} was left: "
            "it was altered, or an older state was put back"
        )

    async def _catch_up(self, lease: Lease, manifest: Manifest, state: State) -> None:
        """Acknowledge what an earlier process has written and could not acknowledge any more."""
        site = self._site
        known = await site.database.read(site.ledger.entries)
        changed = [each for each, entry in manifest.records.items() if known.get(each) != entry]
        there = await site.documents.read_many([name_of(each) for each in changed])
        local = await site.database.read(lambda tx: site.ledger.local(tx, changed))
        copies = [Copy(each, 0, 0, None, "") for each in known if each not in manifest.records]
        for each in changed:
            entry, document = manifest.records[each], there.get(name_of(each))
            if document is None or digest_of(document.content) != entry.digest:
                raise DestinationAlteredError(f"{name_of(each)} at {site.destination} is not what the manifest says")
            record, _, revision = local.get(each, (None, 0, 0))
            same = record is not None and digest_of(document_of(record)) == entry.digest
            copies.append(Copy(each, entry.version, revision if same else 0, entry.digest, document.tag))
        await site.acknowledge(lease, copies, state.number, state.digest)

    async def _find_leftovers(self, lease: Lease, state: State) -> None:
        """Know what a batch that was cut has left: records that were made, written there, and deleted here before any
        manifest named them would stay there.
        """
        site = self._site
        known = await site.database.read(site.ledger.entries)
        expected = {name_of(each) for each in known}
        names = [name for name in await site.documents.names(RECORDS) if name not in expected]
        there = await site.documents.read_many(names)
        found = {record.id: each for each in there.values() if (record := record_in(each.content)) is not None}
        local = await site.database.read(lambda tx: site.ledger.local(tx, list(found)))
        copies = [
            # Revision 0: it is to be sent anew, or taken away.
            Copy(record_id, version, 0, digest_of(found[record_id].content), found[record_id].tag)
            for record_id, (_, version, _) in local.items()
            if name_of(record_id) in there
        ]
        await site.acknowledge(lease, copies, state.number, state.digest)


async def mark(site: Site, before: Document | None) -> None:
    """Leave our marker at a destination, in the place of what is there."""
    signer = site.signer
    marker = Marker(installation=signer.installation, destination=site.destination, made_at=site.clock.wall())
    await site.documents.apply([Change(MARKER, signer.sign(marker), None if before is None else before.tag)])


def ahead(site: Site, number: int) -> DestinationAheadError:
    """It has what this database has not."""
    return DestinationAheadError(
        f"{site.destination} holds {number} records that this database has not; "
        f"`homeport custody restore {site.documents.name}` brings them into an empty one"
    )
