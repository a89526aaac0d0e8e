"""What may be done with teams, members and users, and the rules that a table of roles cannot say.

    the last ADMIN stays          a team that nobody can run is lost
    leaders are for ADMINs        whoever is or becomes ADMIN or MANAGER
    one may leave                 whatever one's role, unless one is the last ADMIN
    names are not given out twice a credential that was issued for a team names it by its id

Each change is one transaction with its line in the audit log. The team's row is locked first, so that two ADMINs who
remove each other at the same time leave one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import ForbiddenError, TeamNotFoundError
from api_server.auth.interfaces import Action
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database, written
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller
from api_server.teams.errors import (
    LastAdminError,
    MemberNotFoundError,
    OwnAccountError,
    TeamNameTakenError,
    TeamNotEmptyError,
    UserNotFoundError,
)
from api_server.teams.interfaces import AccountEnder, TeamEnder, UserEnder
from api_server.teams.records import Member, Team, User, who
from api_server.teams.roles import LEADERS, Role
from api_server.teams.store import TeamStore
from common.clock import Clock
from common.ids import TeamId, is_name

__all__ = ["TeamService"]

_NAMED = 5
"""Members or devices that a refusal names."""


class TeamService:
    """The rules of teams.

    Args:
        database: where it is kept.
        audit: gets a line for each change.
        accounts: ends what a user has open.
        changes: told whose rights have changed.
        clock: wall time.
        team_enders: end what other domains keep of a team that is deleted.
        user_enders: end what they keep of a user who is locked out.
    """

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        accounts: AccountEnder,
        changes: ChangeLog,
        clock: Clock,
        *,
        team_enders: Sequence[TeamEnder] = (),
        user_enders: Sequence[UserEnder] = (),
    ) -> None:
        self._database = database
        self._audit = audit
        self._accounts = accounts
        self._changes = changes
        self._team_enders = team_enders
        self._user_enders = user_enders
        self._clock = clock
        self._store = TeamStore()

    async def own(self, caller: Caller, *, limit: int, after: str | None) -> list[Team]:
        """The caller's own teams."""
        ids = sorted(caller.identity.teams)
        return await self._database.read(lambda tx: self._store.those(tx, ids, limit=limit, after=after))

    async def show(self, team: TeamId) -> Team:
        """One team.

        Raises:
            TeamNotFoundError: it does not exist any more.
        """
        return _found(await self._database.read(lambda tx: self._store.get(tx, team)))

    async def create(self, caller: Caller, team: str, name: str | None, description: str, admin: str | None) -> Team:
        """Make a team. A person becomes its ADMIN; a program names the user who does.

        Raises:
            TeamNameTakenError: there is, or was, one of that id.
            UserNotFoundError: there is no user `admin`.
            ValidationFailedError: the id is no name; a program has named no ADMIN.
        """
        identity = caller.identity
        if not is_name(team):
            raise ValidationFailedError("body: id must be lower-case letters, digits, single hyphens; at most 40")
        first = admin if admin is not None else identity.id if identity.kind == "user" else None
        if first is None:
            raise ValidationFailedError("body: admin must name a user: a token cannot be a member of the team")
        now = self._clock.wall()
        made = Team(id=TeamId(team), name=name or team, description=description, created_at=now, members=1)

        async def work(tx: AsyncConnection) -> Team:
            if await self._store.user(tx, first) is None:
                raise UserNotFoundError(f"there is no user {first}")
            if await self._store.known(tx, made.id):
                raise TeamNameTakenError(f"there is, or was, a team {team}; choose another id")
            creator = who(identity.kind, identity.id)
            await self._store.add(tx, made, creator)
            await self._store.set_role(tx, made.id, first, Role.ADMIN, now=now, added_by=creator)
            after = {"name": made.name, "description": made.description, "admin": first}
            await self._record(tx, caller, made.id, "team.created", ("team", team), None, after)
            return made

        return await written(self._database, work)

    async def edit(self, caller: Caller, team: TeamId, changes: Mapping[str, str]) -> Team:
        """Change a team's name or description.

        Raises:
            TeamNotFoundError: it does not exist any more.
        """

        async def work(tx: AsyncConnection) -> Team:
            await self._lock(tx, team)
            before = _found(await self._store.get(tx, team))
            if not changes:
                return before
            await self._store.change(tx, team, changes)
            was = {key: getattr(before, key) for key in changes}
            await self._record(tx, caller, team, "team.edited", ("team", team), was, dict(changes))
            return _found(await self._store.get(tx, team))

        return await self._database.write(work)

    async def delete(self, caller: Caller, team: TeamId) -> None:
        """Delete an empty team, and end what other domains keep of it.

        Raises:
            TeamNotEmptyError: it has members beside the caller, or devices.
            TeamNotFoundError: it does not exist any more.
        """

        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> list[Change]:
            await self._lock(tx, team)
            if team == await self._store.first_team(tx):
                raise TeamNotEmptyError(
                    "the first team of an installation stays: its ADMINs look after the whole of it"
                )
            others = [
                member
                for member in await self._store.members(tx, team, limit=_NAMED + 2)
                if (caller.identity.kind, caller.identity.id) != ("user", member.user)
            ]
            if others:
                named = ", ".join(member.email or member.name for member in others[:_NAMED])
                raise TeamNotEmptyError(f"remove its members first: {named}{_and_more(len(others))}")
            devices = await self._store.devices_of(tx, team, _NAMED + 1)
            if devices:
                raise TeamNotEmptyError(
                    f"delete its devices first: {', '.join(devices[:_NAMED])}{_and_more(len(devices))}"
                )
            await self._store.drop_members(tx, team)
            await self._store.change(tx, team, {"deleted_at": now})
            changes = [change for ender in self._team_enders for change in await ender.end_team(tx, team, now)]
            # Nobody belongs to the team now, and nobody would be shown an entry of it.
            await self._record(tx, caller, None, "team.deleted", ("team", team), {}, None)
            return changes

        await self._changes.announce(await self._database.write(work))

    async def members(self, team: TeamId, *, limit: int, after: str | None) -> list[Member]:
        """Members of a team, in the order of their user ids."""
        return await self._database.read(lambda tx: self._store.members(tx, team, limit=limit, after=after))

    async def set_member(self, caller: Caller, team: TeamId, user: str, role: Role) -> Member:
        """Make a user a member, or change a member's role.

        Raises:
            ForbiddenError: the user is or becomes a leader, and the caller is no ADMIN.
            LastAdminError: the team would be left without an ADMIN.
            TeamNotFoundError: the team does not exist any more.
            UserNotFoundError: there is no such user.
        """
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[Member, list[Change]]:
            changes: list[Change] = []
            await self._lock(tx, team)
            if await self._store.user(tx, user) is None:
                raise UserNotFoundError(f"there is no user {user}; invite them")
            before = await self._store.role_of(tx, team, user)
            _check_may_manage(caller, team, before, role)
            if before is not role:
                if before is Role.ADMIN:
                    await self._check_not_last(tx, team, user)
                creator = who(caller.identity.kind, caller.identity.id)
                await self._store.set_role(tx, team, user, role, now=now, added_by=creator)
                action = "member.added" if before is None else "member.changed"
                was = None if before is None else {"role": before}
                changes.append(await self._changes.record(tx, _rights_of(user, team)))
                await self._record(tx, caller, team, action, ("user", user), was, {"role": role})
            (member,) = await self._store.members(tx, team, limit=1, user=user)
            return member, changes

        member, changes = await self._database.write(work)
        await self._changes.announce(changes)
        return member

    async def remove_member(self, caller: Caller, team: TeamId, user: str) -> None:
        """Remove a member, or leave.

        Raises:
            ForbiddenError: the caller may not remove that member.
            LastAdminError: the team would be left without an ADMIN.
            MemberNotFoundError: the user is no member.
            TeamNotFoundError: the team does not exist any more.
        """

        async def work(tx: AsyncConnection) -> Change:
            await self._lock(tx, team)
            role = await self._store.role_of(tx, team, user)
            if (caller.identity.kind, caller.identity.id) != ("user", user):
                _check_may_manage(caller, team, role, None)
            if role is None:
                raise MemberNotFoundError(f"{user} is not a member of {team}")
            if role is Role.ADMIN:
                await self._check_not_last(tx, team, user)
            await self._store.remove(tx, team, user)
            change = await self._changes.record(tx, _rights_of(user, team))
            await self._record(tx, caller, team, "member.removed", ("user", user), {"role": role}, None)
            return change

        await self._changes.announce([await self._database.write(work)])

    async def users(self, *, search: str | None, limit: int, after: str | None) -> list[User]:
        """Users of the installation, in the order of their ids."""
        return await self._database.read(lambda tx: self._store.users(tx, search=search, limit=limit, after=after))

    async def set_disabled(self, caller: Caller, user: str, disabled: bool) -> User:
        """Lock a user out, and end all that they have open or have issued; or let them in again.

        Raises:
            LastAdminError: a team would be left without an ADMIN.
            OwnAccountError: it is the caller.
            UserNotFoundError: there is no such user.
        """
        if (caller.identity.kind, caller.identity.id) == ("user", user):
            raise OwnAccountError("somebody else must disable you")
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[User, list[Change]]:
            roles = await self._store.roles_of(tx, user)
            for team in sorted(roles):  # one order for everybody, so that two such calls cannot block each other
                await self._store.lock(tx, team)
            found = await self._store.user(tx, user)
            if found is None:
                raise UserNotFoundError(f"there is no user {user}")
            if (found.disabled_at is not None) == disabled:
                return found, []
            changes: list[Change] = []
            if disabled:
                for team, role in sorted(roles.items()):
                    if role is Role.ADMIN:
                        await self._check_not_last(tx, team, user)
                await self._accounts.end_sessions_of(tx, user, "disabled", now)
                for ender in self._user_enders:
                    changes += await ender.end_user(tx, user, now)
            await self._store.disable(tx, user, now if disabled else None)
            changes.append(await self._changes.record(tx, _rights_of(user, None)))
            action = "user.disabled" if disabled else "user.enabled"
            await self._record(tx, caller, None, action, ("user", user), None, None)
            changed = await self._store.user(tx, user)
            assert changed is not None
            return changed, changes

        changed, changes = await self._database.write(work)
        await self._changes.announce(changes)
        return changed

    async def _lock(self, tx: AsyncConnection, team: TeamId) -> None:
        if not await self._store.lock(tx, team):
            raise TeamNotFoundError(_NO_TEAM)

    async def _check_not_last(self, tx: AsyncConnection, team: TeamId, user: str) -> None:
        """Within the lock on the team.

        Raises:
            LastAdminError: nobody else is ADMIN there.
        """
        admins = await self._store.count(tx, team, Role.ADMIN)
        found = await self._store.user(tx, user)
        if admins - (found is not None and found.disabled_at is None) < 1:
            raise LastAdminError(f"{user} is the last ADMIN of {team}; make somebody else ADMIN first")

    async def _record(
        self,
        tx: AsyncConnection,
        caller: Caller,
        team: TeamId | None,
        action: str,
        target: tuple[str, str],
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
    ) -> None:
        await self._audit.record(tx, entry_of(caller, team, action, target, before=before, after=after))


_NO_TEAM = "there is no such team, or you do not belong to it"


def _found(team: Team | None) -> Team:
    if team is None:
        raise TeamNotFoundError(_NO_TEAM)
    return team


def _rights_of(user: str, team: TeamId | None) -> Change:
    return Change(topic=Topic.PEOPLE, team=team, subject=user)


def _and_more(count: int) -> str:
    return " and more" if count > _NAMED else ""


def _check_may_manage(caller: Caller, team: TeamId, before: Role | None, after: Role | None) -> None:
    """Whether the caller may turn a member of one role into one of another.

    Raises:
        ForbiddenError: they may not.
    """
    leaders = before in LEADERS or after in LEADERS
    action = Action.MEMBERS_MANAGE_LEADERS if leaders else Action.MEMBERS_MANAGE
    if not caller.identity.may(action, team):
        whom = "an ADMIN or MANAGER" if leaders else "a member"
        raise ForbiddenError(f"{caller.identity.name!r} may not set, change or remove {whom} of {team}")
