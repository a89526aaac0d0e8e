"""What the devices need from the relay."""

from __future__ import annotations

from typing import Literal, Protocol

from common.ids import TeamId

__all__ = ["Revoker"]


class Revoker(Protocol):
    """Ends what a device dials in with, where it is honoured."""

    async def revoke(
        self, kind: Literal["device", "credential"], subject: str, *, team: TeamId, expires_at: float
    ) -> None:
        """Close the live session that was admitted with it, and admit none again until `expires_at`.

        Args:
            kind: what `subject` is the id of.
            subject: the id.
            team: that it is of.
            expires_at: seconds since the Unix epoch; after that it has expired by itself.

        Raises:
            RelayUnavailableError: the relay could not be told, and may still honour it.
        """
        ...
