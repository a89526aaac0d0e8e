"""Teams, members and users in the database. Every call is part of the transaction that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.signin.tables import installation, users
from api_server.devices.tables import devices
from api_server.teams.records import Member, Team, User
from api_server.teams.roles import Role
from api_server.teams.tables import members, teams
from common.ids import TeamId

__all__ = ["TeamStore"]


class TeamStore:
    """SQL for teams; it decides nothing."""

    __slots__ = ()

    async def installed(self, tx: AsyncConnection) -> bool:
        """Whether there is a first team."""
        return (await tx.execute(select(installation.c.id))).first() is not None

    async def install(self, tx: AsyncConnection, team: TeamId) -> None:
        """Keep which team is the first."""
        await tx.execute(insert(installation).values(id=1, team=team))

    async def first_team(self, tx: AsyncConnection) -> TeamId:
        """The installation's first team."""
        return TeamId((await tx.execute(select(installation.c.team))).scalar_one())

    async def lock(self, tx: AsyncConnection, team: TeamId) -> bool:
        """Hold a team against other writers until the transaction ends; whether it exists."""
        query = select(teams.c.id).where(teams.c.id == team, teams.c.deleted_at.is_(None)).with_for_update()
        return (await tx.execute(query)).first() is not None

    async def known(self, tx: AsyncConnection, team: TeamId) -> bool:
        """Whether a team has, or once had, that id."""
        return (await tx.execute(select(teams.c.id).where(teams.c.id == team))).first() is not None

    async def add(self, tx: AsyncConnection, team: Team, created_by: str | None) -> None:
        """Keep a new team."""
        await tx.execute(
            insert(teams).values(
                id=team.id,
                name=team.name,
                description=team.description,
                created_at=team.created_at,
                created_by=created_by,
            )
        )

    async def get(self, tx: AsyncConnection, team: TeamId) -> Team | None:
        """A team."""
        found = await self.those(tx, [team], limit=1, after=None)
        return found[0] if found else None

    async def those(self, tx: AsyncConnection, ids: Sequence[TeamId], *, limit: int, after: str | None) -> list[Team]:
        """Those of the teams that exist, in the order of their ids, at most `limit`."""
        count = select(func.count()).where(members.c.team_id == teams.c.id).scalar_subquery()
        query = (
            select(teams.c.id, teams.c.name, teams.c.description, teams.c.created_at, count.label("members"))
            .where(teams.c.id.in_(ids), teams.c.deleted_at.is_(None))
            .order_by(teams.c.id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(teams.c.id > after)
        return [Team(**row._mapping) for row in await tx.execute(query)]

    async def change(self, tx: AsyncConnection, team: TeamId, values: Mapping[str, object]) -> None:
        """Change columns of a team."""
        await tx.execute(update(teams).where(teams.c.id == team).values(**values))

    async def devices_of(self, tx: AsyncConnection, team: TeamId, limit: int) -> Sequence[str]:
        """Names of its devices, at most `limit`."""
        query = select(devices.c.name).where(devices.c.team_id == team).order_by(devices.c.name).limit(limit)
        return (await tx.execute(query)).scalars().all()

    async def drop_members(self, tx: AsyncConnection, team: TeamId) -> None:
        """Nobody is a member any more."""
        await tx.execute(delete(members).where(members.c.team_id == team))

    async def role_of(self, tx: AsyncConnection, team: TeamId, user: str) -> Role | None:
        """The user's role in a team that exists; None for whoever is no member."""
        query = (
            select(members.c.role)
            .join(teams, teams.c.id == members.c.team_id)
            .where(members.c.team_id == team, members.c.user_id == user, teams.c.deleted_at.is_(None))
        )
        role = (await tx.execute(query)).scalar()
        return None if role is None else Role(role)

    async def roles_of(self, tx: AsyncConnection, user: str) -> dict[TeamId, Role]:
        """The roles of a user, by team."""
        query = (
            select(members.c.team_id, members.c.role)
            .join(teams, teams.c.id == members.c.team_id)
            .where(members.c.user_id == user, teams.c.deleted_at.is_(None))
        )
        return {TeamId(team): Role(role) for team, role in await tx.execute(query)}

    async def standing(self, tx: AsyncConnection, team: TeamId, user: str) -> Role | None:
        """The role of a user who is not locked out in a team that exists; None otherwise."""
        query = (
            select(members.c.role)
            .join(teams, teams.c.id == members.c.team_id)
            .join(users, users.c.id == members.c.user_id)
            .where(members.c.user_id == user, members.c.team_id == team)
            .where(teams.c.deleted_at.is_(None), users.c.disabled_at.is_(None))
        )
        role = (await tx.execute(query)).scalar()
        return None if role is None else Role(role)

    async def count(self, tx: AsyncConnection, team: TeamId, role: Role) -> int:
        """How many members have that role, the disabled ones not counted."""
        query = (
            select(func.count())
            .select_from(members.join(users, users.c.id == members.c.user_id))
            .where(members.c.team_id == team, members.c.role == role, users.c.disabled_at.is_(None))
        )
        return int((await tx.execute(query)).scalar_one())

    async def set_role(
        self, tx: AsyncConnection, team: TeamId, user: str, role: Role, *, now: float, added_by: str | None
    ) -> None:
        """Make the user a member with that role, or give a member that role."""
        changed = await tx.execute(
            update(members).where(members.c.team_id == team, members.c.user_id == user).values(role=role)
        )
        if changed.rowcount == 0:
            await tx.execute(
                insert(members).values(team_id=team, user_id=user, role=role, since=now, added_by=added_by)
            )

    async def remove(self, tx: AsyncConnection, team: TeamId, user: str) -> None:
        """The user is no member any more."""
        await tx.execute(delete(members).where(members.c.team_id == team, members.c.user_id == user))

    async def members(
        self, tx: AsyncConnection, team: TeamId, *, limit: int, after: str | None = None, user: str | None = None
    ) -> list[Member]:
        """Members in the order of their user ids, at most `limit`; of one user when it is given."""
        query = (
            select(
                members.c.user_id.label("user"),
                users.c.name,
                users.c.email,
                members.c.role,
                members.c.since,
                users.c.disabled_at,
            )
            .join(users, users.c.id == members.c.user_id)
            .where(members.c.team_id == team)
            .order_by(members.c.user_id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(members.c.user_id > after)
        if user is not None:
            query = query.where(members.c.user_id == user)
        return [
            Member(
                user=row.user,
                name=row.name,
                email=row.email,
                role=Role(row.role),
                since=row.since,
                disabled=row.disabled_at is not None,
            )
            for row in await tx.execute(query)
        ]

    async def user(self, tx: AsyncConnection, user: str) -> User | None:
        """A user."""
        row = (await tx.execute(_USERS.where(users.c.id == user))).first()
        return None if row is None else _user(row)

    async def verified_email(self, tx: AsyncConnection, user: str) -> str | None:
        """The e-mail address that the user's sign-in provider vouches for."""
        query = select(users.c.email).where(users.c.id == user, users.c.email_verified.is_(True))
        return (await tx.execute(query)).scalar()

    async def users(self, tx: AsyncConnection, *, search: str | None, limit: int, after: str | None) -> list[User]:
        """Users in the order of their ids, at most `limit`; those whose name or address contains `search`."""
        query = _USERS.order_by(users.c.id).limit(limit)
        if after is not None:
            query = query.where(users.c.id > after)
        if search is not None:
            query = query.where(
                or_(*(column.icontains(search, autoescape=True) for column in (users.c.name, users.c.email)))
            )
        return [_user(row) for row in await tx.execute(query)]

    async def disable(self, tx: AsyncConnection, user: str, at: float | None) -> None:
        """Lock the user out from `at` on; None lets them in again."""
        await tx.execute(update(users).where(users.c.id == user).values(disabled_at=at))


_USERS = select(
    users.c.id, users.c.name, users.c.email, users.c.created_at, users.c.last_sign_in_at, users.c.disabled_at
)


def _user(row: Any) -> User:
    return User(**row._mapping)
