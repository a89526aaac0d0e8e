"""What the devices need from the relay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from common.crypto.session_tokens import CredentialId
from common.ids import TeamId

__all__ = ["RelayRevocations", "Revocation", "Revoker"]


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a device may not dial in with any more."""

    id: str
    """Of the credential, or of the device."""
    kind: Literal["credential", "device"]
    team: TeamId
    expires_at: float
    """Seconds since the Unix epoch; after that it has expired by itself."""


class Revoker(Protocol):
    """Ends what a device dials in with."""

    async def revoke_credential(self, team: TeamId, credential: CredentialId, *, expires_at: float) -> None:
        """Close the live session that was admitted with `credential`, and admit none again until `expires_at`.

        Args:
            team: that it was issued in.
            credential: its id.
            expires_at: seconds since the Unix epoch; after that it has expired by itself.

        Raises:
            RelayUnavailableError: the relay could not be told, and may still honour it.
        """
        ...


class RelayRevocations(Revoker, Protocol):
    """The relay, which enforces revocations and keeps them in memory only."""

    async def tell_revocations(self, revocations: Sequence[Revocation]) -> None:
        """Tell the relay all that is revoked, as after its start.

        Raises:
            RelayUnavailableError: it could not be told.
        """
        ...
