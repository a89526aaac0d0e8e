"""Who belongs where, for those who sign people in: read from the database, and the two things that begin it.

prepare            the first team is there before anybody can sign in
make_first_admin   the first person gets it
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.signin.tables import installation
from api_server.db.database import Database
from api_server.db.errors import DatabaseConflictError
from api_server.teams.roles import Role
from api_server.teams.tables import members, teams
from common.clock import Clock
from common.ids import TeamId

__all__ = ["DatabaseMemberships"]


class DatabaseMemberships:
    """Implements `api_server.teams.interfaces.Memberships`, and `FirstAdmin` and `TeamNames` of sign-in.

    Args:
        database: where it is kept.
        clock: wall time.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._first_team: TeamId | None = None
        """Once known, it is known for good: the row is written once."""

    async def prepare(self, team: TeamId) -> None:
        """Have an installation whose first team is `team`. One that is there already stays as it is.

        Raises:
            DatabaseError: it cannot be made.
        """

        async def work(tx: AsyncConnection) -> None:
            if (await tx.execute(select(installation.c.id))).first() is not None:
                return
            if (await tx.execute(select(teams.c.id).where(teams.c.id == team))).first() is None:
                now = self._clock.wall()
                await tx.execute(insert(teams).values(id=team, name=team, description="", created_at=now))
            await tx.execute(insert(installation).values(id=1, team=team))

        try:
            await self._database.write(work)
        except DatabaseConflictError:
            await self._database.write(work)  # another process was quicker

    async def teams_of(self, user: str) -> Mapping[TeamId, Role]:
        async def work(tx: AsyncConnection) -> dict[TeamId, Role]:
            query = (
                select(members.c.team_id, members.c.role)
                .join(teams, teams.c.id == members.c.team_id)
                .where(members.c.user_id == user, teams.c.deleted_at.is_(None))
            )
            return {TeamId(team): Role(role) for team, role in await tx.execute(query)}

        return await self._database.read(work)

    async def first_team(self) -> TeamId:
        async def work(tx: AsyncConnection) -> TeamId:
            return TeamId((await tx.execute(select(installation.c.team))).scalar_one())

        if self._first_team is None:
            self._first_team = await self._database.read(work)
        return self._first_team

    async def names_of(self, ids: frozenset[TeamId]) -> Mapping[TeamId, str]:
        """The names for people of those of the teams that exist."""

        async def work(tx: AsyncConnection) -> dict[TeamId, str]:
            query = select(teams.c.id, teams.c.name).where(teams.c.id.in_(ids), teams.c.deleted_at.is_(None))
            return {TeamId(team): name for team, name in await tx.execute(query)}

        return await self._database.read(work)

    async def make_first_admin(self, tx: AsyncConnection, team: TeamId, user: str, now: float) -> None:
        """Make a user ADMIN of the first team, as part of a transaction."""
        await tx.execute(insert(members).values(team_id=team, user_id=user, role=Role.ADMIN, since=now))
