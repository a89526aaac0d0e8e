"""How custody is: the keys and what needs them, the mirrors and what they lack."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from api_server.custody.documents.interfaces import Documents
from api_server.custody.keys import count_by_key, sealed_columns
from api_server.custody.mirror.ledger import Drift, MirrorLedger
from api_server.db.database import Database
from common.crypto.keyring import Keyring

__all__ = ["KeyStatus", "MirrorStatus", "Status", "status_of"]


class KeyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A key."""

    id: str
    state: str
    """`seals`, `opens`, `prepared`, `retired`, or `missing`: something needs it and the keyring has it not."""
    needed_by: int
    """Sealed texts in the database."""


class MirrorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A mirror."""

    name: str
    primary: bool
    """Whether a change is answered only once it is there."""
    destination: str
    """As the settings name it."""
    pinned: str | None
    """As it was pinned; None before the first sync."""
    state: str
    """`in_step`, `behind`, `new`, `restoring`, or `stopped`: `problem` says why."""
    drift: Drift
    manifest: int
    """Number of the newest manifest there."""
    attempted_at: float | None
    acknowledged_at: float | None
    problem: str | None
    detail: str | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything."""

    keys: list[KeyStatus]
    mirrors: list[MirrorStatus]

    @property
    def well(self) -> bool:
        """Whether nobody has to do anything."""
        return not any(key.state == "missing" for key in self.keys) and not any(
            mirror.state == "stopped" for mirror in self.mirrors
        )


async def status_of(
    database: Database, keyring: Keyring, mirrors: Sequence[Documents], *, primary: str = "database"
) -> Status:
    """How it is, as far as this database knows; no destination is asked.

    Args:
        database: with the schema of this code.
        keyring: of the installation.
        mirrors: that the settings name.
        primary: name of the one that is the primary, if one is.

    Raises:
        DatabaseError: the database is unavailable.
        SealBrokenError: a sealed column holds something that is not sealed.
    """
    counted = await database.read(lambda tx: count_by_key(tx, sealed_columns()))
    states = {key.id: "opens" for key in keyring.keys} | {key.id: "retired" for key in keyring.retired}
    states |= {key.id: "prepared" for key in keyring.prepared} | {keyring.first.id: "seals"}
    keys = [
        KeyStatus(id=key_id, state=states.get(key_id, "missing"), needed_by=counted[key_id])
        for key_id in [*keyring.ids, *sorted(counted.keys() - states.keys())]
    ]
    return Status(keys=keys, mirrors=[await _mirror(database, documents, primary) for documents in mirrors])


async def _mirror(database: Database, documents: Documents, primary: str) -> MirrorStatus:
    ledger = MirrorLedger(documents.name)
    known = await database.read(ledger.known)
    pinned = await database.read(ledger.pinned)
    drift = await database.read(ledger.drift)
    if known is not None and known.problem is not None:
        state = "stopped"
    elif pinned is None:
        state = "new"
    elif pinned.state != "active":
        state = pinned.state
    else:
        state = "behind" if drift.changes or drift.deletions else "in_step"
    return MirrorStatus(
        name=documents.name,
        primary=documents.name == primary,
        destination=documents.destination,
        pinned=None if pinned is None else pinned.destination,
        state=state,
        drift=drift,
        manifest=0 if pinned is None else pinned.manifest_number,
        attempted_at=None if known is None else known.attempted_at,
        acknowledged_at=None if known is None else known.acknowledged_at,
        problem=None if known is None else known.problem,
        detail=None if known is None else known.problem_detail,
    )
