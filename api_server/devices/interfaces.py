"""What the devices need from the relay, and of one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from common.ids import TeamId

__all__ = ["DeviceCreators", "RelayRevocations", "Revocation", "RevocationKeeper"]


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a device may not dial in with any more."""

    id: str
    """Of the credential, or of the device."""
    kind: Literal["credential", "device"]
    team: TeamId
    expires_at: float
    """Seconds since the Unix epoch; after that it has expired by itself."""


class DeviceCreators(Protocol):
    """Whose devices are."""

    async def creator_of(self, team: TeamId, device: str) -> tuple[str, str] | None:
        """Kind and id of the identity that created a device; None when the team has none of that id or name.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...


class RevocationKeeper(Protocol):
    """Ends what devices dial in with: first on record, then at the relay."""

    async def keep(self, tx: AsyncConnection, revocations: Sequence[Revocation]) -> None:
        """Put revocations on record, as part of a transaction. They hold once it is committed.

        Args:
            tx: the transaction.
            revocations: one said twice holds until the later expiry.
        """
        ...

    async def enforce(self, revocations: Sequence[Revocation]) -> None:
        """Have the relay close what is live under them, and admit it no more; call it after the commit.

        Raises:
            RelayUnavailableError: they are on record and not yet in force; the relay is told as soon as it answers.
        """
        ...


class RelayRevocations(Protocol):
    """The relay, which enforces revocations and keeps them in memory only."""

    async def revoke(self, revocation: Revocation) -> None:
        """Close what is live under it, and admit it no more until it expires.

        Raises:
            RelayUnavailableError: the relay could not be told, and may still honour it.
        """
        ...

    async def tell_revocations(self, revocations: Sequence[Revocation]) -> None:
        """Tell the relay all that is revoked, as after its start.

        Raises:
            RelayUnavailableError: it could not be told.
        """
        ...
