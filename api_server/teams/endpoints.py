"""`/api/teams`, `/api/users` and `/api/invitations`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api_server.auth.errors import ForbiddenError, TeamNotFoundError
from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.routes import Caller, ListQuery, Route, cut_page
from api_server.teams.errors import (
    InvitationAddressError,
    InvitationExpiredError,
    InvitationNotFoundError,
    InvitationUsedError,
    LastAdminError,
    MemberNotFoundError,
    OwnAccountError,
    TeamNameTakenError,
    TeamNotEmptyError,
    UserNotFoundError,
)
from api_server.teams.invitations import MAX_LIFETIME, InvitationService
from api_server.teams.records import Invitation, Invited, Member, Team, User
from api_server.teams.roles import Role
from api_server.teams.service import TeamService
from common.secret import Secret

__all__ = ["TeamEndpoints"]

_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_Text = Annotated[str, Meta(max_length=1000)]
_Title = Annotated[str, Meta(min_length=1, max_length=100)]
_Email = Annotated[str, Meta(min_length=3, max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$")]


class TeamPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a team."""

    team: Annotated[str, Meta(description="Id of the team.")]


class MemberPath(TeamPath, frozen=True, kw_only=True):
    """Names a member."""

    user: Annotated[str, Meta(description="Id of the user.")]


class UserPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a user."""

    id: Annotated[str, Meta(description="Id of the user.")]


class InvitationPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names an invitation."""

    id: Annotated[str, Meta(description="Id of the invitation.")]


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list that is not of one team."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="Most items in the answer.")] = 100
    cursor: Annotated[
        Annotated[str, Meta(min_length=1, max_length=512)] | None,
        Meta(description="The `next` of the page before this one."),
    ] = None


class UserQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which users."""

    search: Annotated[
        Annotated[str, Meta(min_length=1, max_length=100)] | None,
        Meta(description="Only those whose name or e-mail address contains this, in any case."),
    ] = None


class NewTeam(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A team to be made."""

    id: _Id
    """Lower-case letters, digits, single hyphens; at most 40. It stands in paths and host names and never changes."""
    name: _Title | None = None
    """For people; the id when left out."""
    description: _Text = ""
    admin: _Id | None = None
    """Id of the user who becomes its ADMIN; oneself when left out. A token must name one."""


class TeamChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a team; what is left out stays."""

    name: _Title | UnsetType = UNSET
    description: _Text | UnsetType = UNSET


class NewRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The role that a member gets."""

    role: Role


class UserChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a user."""

    disabled: bool
    """Whether the user is locked out. What they have open ends at once."""


class NewInvitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An invitation to be made."""

    email: _Email
    """The sign-in provider must vouch for it when the invitation is accepted."""
    teams: Annotated[list[Invited], Meta(min_length=1, max_length=20)]
    expires_in: Annotated[float, Meta(ge=60, le=MAX_LIFETIME)] = MAX_LIFETIME
    """Seconds; seven days at most."""


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shows that one was invited."""

    token: Annotated[str, Meta(max_length=100)]
    """`hpi_...`, the part of the link after `#`."""


class MadeInvitation(Invitation, frozen=True, kw_only=True):
    """An invitation with what is shown only now."""

    token: str
    """`hpi_...`; it is not kept, and cannot be shown again."""


class TeamPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of teams."""

    items: list[Team]
    next: str | None


class MemberPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of members."""

    items: list[Member]
    next: str | None


class UserPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of users."""

    items: list[User]
    next: str | None


class InvitationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of invitations."""

    items: list[Invitation]
    next: str | None


class TeamEndpoints:
    """Serves teams, members, users and invitations.

    Args:
        teams: the rules.
        invitations: theirs.
    """

    def __init__(self, teams: TeamService, invitations: InvitationService) -> None:
        self._teams = teams
        self._invitations = invitations

    def routes(self) -> list[Route]:
        """The endpoints."""
        away = DatabaseUnavailableError
        gone = (TeamNotFoundError, away)
        one, member = "/api/teams/{team}", "/api/teams/{team}/members/{user}"
        invitation = "/api/invitations/{id}"
        missing = (InvitationNotFoundError, away)
        return [
            Route(method="GET", path="/api/teams", handler=self.list_teams, errors=(away,)),
            Route(
                method="POST",
                path="/api/teams",
                handler=self.create_team,
                action=Action.TEAMS_CREATE,
                every_team=True,
                status=201,
                errors=(TeamNameTakenError, UserNotFoundError, away),
            ),
            Route(method="GET", path=one, handler=self.show_team, action=Action.TEAMS_READ, errors=gone),
            Route(method="PATCH", path=one, handler=self.edit_team, action=Action.TEAMS_EDIT, errors=gone),
            Route(
                method="DELETE",
                path=one,
                handler=self.delete_team,
                action=Action.TEAMS_DELETE,
                status=204,
                errors=(TeamNotEmptyError, *gone),
            ),
            Route(
                method="GET", path=f"{one}/members", handler=self.list_members, action=Action.TEAMS_READ, errors=gone
            ),
            Route(
                method="PUT",
                path=member,
                handler=self.set_member,
                action=Action.MEMBERS_MANAGE,
                errors=(LastAdminError, UserNotFoundError, *gone),
            ),
            Route(
                method="DELETE",
                path=member,
                handler=self.remove_member,
                action=Action.TEAMS_READ,
                status=204,
                errors=(ForbiddenError, LastAdminError, MemberNotFoundError, *gone),
            ),
            Route(
                method="GET",
                path="/api/users",
                handler=self.list_users,
                action=Action.USERS_READ,
                every_team=True,
                errors=(away,),
            ),
            Route(
                method="PATCH",
                path="/api/users/{id}",
                handler=self.change_user,
                action=Action.USERS_DISABLE,
                errors=(LastAdminError, OwnAccountError, UserNotFoundError, away),
            ),
            Route(
                method="GET",
                path="/api/invitations",
                handler=self.list_invitations,
                action=Action.USERS_INVITE,
                errors=(away,),
            ),
            Route(
                method="POST",
                path="/api/invitations",
                handler=self.create_invitation,
                action=Action.USERS_INVITE,
                every_team=True,
                status=201,
                errors=gone,
            ),
            Route(
                method="GET",
                path=invitation,
                handler=self.show_invitation,
                action=Action.USERS_INVITE,
                every_team=True,
                errors=missing,
            ),
            Route(
                method="DELETE",
                path=invitation,
                handler=self.revoke_invitation,
                action=Action.USERS_INVITE,
                every_team=True,
                status=204,
                errors=(InvitationUsedError, *missing),
            ),
            Route(
                method="POST",
                path=f"{invitation}/accept",
                handler=self.accept_invitation,
                errors=(
                    ForbiddenError,
                    InvitationAddressError,
                    InvitationExpiredError,
                    InvitationUsedError,
                    *missing,
                ),
            ),
        ]

    async def list_teams(self, caller: Caller, query: PageQuery) -> TeamPage:
        """List your teams."""
        found = await self._teams.own(caller, limit=query.limit + 1, after=query.cursor)
        items, cursor = cut_page(found, query.limit, lambda each: each.id)
        return TeamPage(items=items, next=cursor)

    async def create_team(self, caller: Caller, body: NewTeam) -> Team:
        """Create a team.

        You become its ADMIN. The id of a team that was deleted is not given out again.
        """
        return await self._teams.create(caller, body.id, body.name, body.description, body.admin)

    async def show_team(self, caller: Caller, path: TeamPath) -> Team:  # noqa: ARG002  the path has named it
        """Show a team."""
        return await self._teams.show(caller.team)

    async def edit_team(self, caller: Caller, path: TeamPath, body: TeamChange) -> Team:  # noqa: ARG002
        """Change a team's name or description."""
        given = {"name": body.name, "description": body.description}
        changes = {key: value for key, value in given.items() if value is not UNSET and isinstance(value, str)}
        return await self._teams.edit(caller, caller.team, changes)

    async def delete_team(self, caller: Caller, path: TeamPath) -> None:  # noqa: ARG002
        """Delete a team that has no members beside you, and no devices.

        A refusal names up to five of those that are left. The first team of an installation stays.
        """
        await self._teams.delete(caller, caller.team)

    async def list_members(self, caller: Caller, path: TeamPath, query: PageQuery) -> MemberPage:  # noqa: ARG002
        """List the members of a team."""
        found = await self._teams.members(caller.team, limit=query.limit + 1, after=query.cursor)
        items, cursor = cut_page(found, query.limit, lambda each: each.user)
        return MemberPage(items=items, next=cursor)

    async def set_member(self, caller: Caller, path: MemberPath, body: NewRole) -> Member:
        """Add a user to a team, or change a member's role.

        Only an ADMIN may do it with somebody who is or becomes ADMIN or MANAGER. The last ADMIN stays one.
        """
        return await self._teams.set_member(caller, caller.team, path.user, body.role)

    async def remove_member(self, caller: Caller, path: MemberPath) -> None:
        """Remove a member from a team, or leave it.

        Everybody may leave, but not the last ADMIN.
        """
        await self._teams.remove_member(caller, caller.team, path.user)

    async def list_users(self, query: UserQuery) -> UserPage:
        """List the users of the installation."""
        found = await self._teams.users(search=query.search, limit=query.limit + 1, after=query.cursor)
        items, cursor = cut_page(found, query.limit, lambda each: each.id)
        return UserPage(items=items, next=cursor)

    async def change_user(self, caller: Caller, path: UserPath, body: UserChange) -> User:
        """Lock a user out, or let them in again.

        What they have open ends at once. Nobody can do it to themselves, or to the last ADMIN of a team.
        """
        return await self._teams.set_disabled(caller, path.id, body.disabled)

    async def list_invitations(self, caller: Caller, query: ListQuery) -> InvitationPage:
        """List the invitations that name a team."""
        found = await self._invitations.in_team(caller.team, limit=query.limit + 1, after=query.cursor)
        items, cursor = cut_page(found, query.limit, lambda each: each.id)
        return InvitationPage(items=items, next=cursor)

    async def create_invitation(self, caller: Caller, body: NewInvitation) -> MadeInvitation:
        """Invite somebody to teams.

        You must be ADMIN of each. Nothing is sent: pass the token on yourself. It is good for one user, for whose
        e-mail address the sign-in provider vouches, and cannot be shown again.
        """
        made, token = await self._invitations.create(caller, body.email, body.teams, body.expires_in)
        return MadeInvitation(**msgspec.structs.asdict(made), token=token.reveal())

    async def show_invitation(self, caller: Caller, path: InvitationPath) -> Invitation:
        """Show an invitation."""
        return await self._invitations.show(caller, path.id)

    async def revoke_invitation(self, caller: Caller, path: InvitationPath) -> None:
        """Withdraw an invitation that nobody has accepted yet."""
        await self._invitations.revoke(caller, path.id)

    async def accept_invitation(self, caller: Caller, path: InvitationPath, body: Acceptance) -> Invitation:
        """Accept an invitation.

        You become a member of the teams that it names; where you are one already, the higher role stays.
        """
        return await self._invitations.accept(caller, path.id, Secret(body.token))
