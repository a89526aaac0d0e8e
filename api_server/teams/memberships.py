"""Who belongs where, for those who sign people in: read from the database, and the two things that begin it.

prepare            the first team is there before anybody can sign in
make_first_admin   the first person gets it
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.db.database import Database, written
from api_server.teams.records import Team
from api_server.teams.roles import Role
from api_server.teams.store import TeamStore
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
        self._store = TeamStore()
        self._first_team: TeamId | None = None
        """Once known, it is known for good: the row is written once."""

    async def prepare(self, team: TeamId) -> None:
        """Have an installation whose first team is `team`. One that is there already stays as it is.

        Raises:
            DatabaseError: it cannot be made.
        """

        async def work(tx: AsyncConnection) -> None:
            if await self._store.installed(tx):
                return
            if not await self._store.known(tx, team):
                made = Team(id=team, name=team, description="", created_at=self._clock.wall(), members=0)
                await self._store.add(tx, made, None)
            await self._store.install(tx, team)

        await written(self._database, work)

    async def teams_of(self, user: str) -> Mapping[TeamId, Role]:
        return await self._database.read(lambda tx: self._store.roles_of(tx, user))

    async def role_in(self, user: str, team: TeamId) -> Role | None:
        return await self._database.read(lambda tx: self._store.standing(tx, team, user))

    async def first_team(self) -> TeamId:
        return await self._database.read(self._store.first_team)

    async def names_of(self, teams: frozenset[TeamId]) -> Mapping[TeamId, str]:
        """The names for people of those of the teams that exist."""
        ids = sorted(teams)
        found = await self._database.read(lambda tx: self._store.those(tx, ids, limit=len(ids), after=None))
        return {team.id: team.name for team in found}

    async def make_first_admin(self, tx: AsyncConnection, team: TeamId, user: str, now: float) -> None:
        """Make a user ADMIN of the first team, as part of a transaction."""
        await self._store.set_role(tx, team, user, Role.ADMIN, now=now, added_by=None)
