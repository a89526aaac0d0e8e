"""Records for tests, with a canary in each that must be seen nowhere (C8)."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from api_server.custody.records import Record
from common.crypto.envelope import Envelope, SealContext
from common.crypto.keyring import Keyring, new_wrapping_key
from common.ids import TeamId

__all__ = ["CANARY", "ENVELOPE", "changed", "opened", "record"]

CANARY = "gho_canary"
"""What every sealed secret of these samples begins with."""

ENVELOPE = Envelope(Keyring([new_wrapping_key()]))


def record(
    number: int | str = 1,
    *,
    version: int = 1,
    team: str = "home",
    user: str = "usr_1",
    envelope: Envelope = ENVELOPE,
    secret: str | None = None,
) -> Record:
    """A record; the same number gives the same id."""
    name = f"{number:04}" if isinstance(number, int) else number
    context = SealContext(kind="sample", team=team, owner=user, name="github", id=f"ptk_{name}", version=version)
    return Record(
        id=context.id,
        kind=context.kind,
        team=TeamId(team),
        user=user,
        provider=context.name,
        version=version,
        sealed=envelope.seal((secret or f"{CANARY}-{name}-{version}").encode(), context),
        updated_at=1_700_000_000.25,
    )


def changed(before: Record, *, version: int | None = None, envelope: Envelope = ENVELOPE) -> Record:
    """The record after a change."""
    version = before.version + 1 if version is None else version
    context = replace(before.context(), version=version)
    sealed = envelope.seal(f"{CANARY}-{before.id}-{version}".encode(), context)
    return msgspec.structs.replace(before, version=version, sealed=sealed)


def opened(kept: Record, envelope: Envelope = ENVELOPE) -> str:
    """What is sealed in a record."""
    return envelope.open(kept.sealed, kept.context()).reveal().decode()
