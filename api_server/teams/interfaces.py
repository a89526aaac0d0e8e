"""What other domains ask of the teams, and what the teams ask of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.interfaces import Change
from api_server.teams.roles import Role
from common.ids import TeamId

__all__ = ["AccountEnder", "Memberships", "TeamEnder", "UserEnder"]


class Memberships(Protocol):
    """Who belongs where."""

    async def teams_of(self, user: str) -> Mapping[TeamId, Role]:
        """The teams of a user, and the role in each; none for a user who is not known.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...

    async def role_in(self, user: str, team: TeamId) -> Role | None:
        """The role of a user in a team; None when there is none: not a member, locked out, or no such team any more.

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


class TeamEnder(Protocol):
    """Ends what a domain keeps of a team that is deleted."""

    async def end_team(self, tx: AsyncConnection, team: TeamId, now: float) -> Sequence[Change]:
        """End all of it, as part of the transaction that deletes the team; its row is locked already.

        Args:
            tx: the transaction.
            team: its id, which is never given out again.
            now: seconds since the Unix epoch.

        Returns:
            What was changed, as `ChangeLog.record` gave it back: it is announced after the commit.
        """
        ...


class UserEnder(Protocol):
    """Ends what a domain keeps of a user who is locked out."""

    async def end_user(self, tx: AsyncConnection, user: str, now: float) -> Sequence[Change]:
        """End all of it, as part of the transaction that locks the user out.

        Args:
            tx: the transaction.
            user: its id.
            now: seconds since the Unix epoch.

        Returns:
            What was changed, as `ChangeLog.record` gave it back: it is announced after the commit.
        """
        ...
