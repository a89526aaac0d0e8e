"""What other domains ask of the teams, and what the teams ask of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.teams.roles import Role
from common.ids import TeamId

__all__ = ["AccountEnder", "Memberships"]


class Memberships(Protocol):
    """Who belongs where."""

    async def teams_of(self, user: str) -> Mapping[TeamId, Role]:
        """The teams of a user, and the role in each; none for a user who is not known.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...

    async def first_team(self) -> TeamId:
        """The installation's first team, whose ADMINs look after the whole of it.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...


class AccountEnder(Protocol):
    """Ends what a user has open."""

    async def end_sessions_of(self, tx: AsyncConnection, user: str, reason: str, now: float) -> None:
        """End all sessions of a user, as part of a transaction.

        Args:
            tx: the transaction.
            user: its id.
            reason: a word for the record.
            now: seconds since the Unix epoch.
        """
        ...
