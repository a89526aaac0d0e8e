"""Invitations: how somebody who is not there yet comes into a team.

    made       by an ADMIN of every team that it names, for one e-mail address, for at most seven days
    accepted   once, by a user for whom the sign-in provider vouches that the address is theirs, with its token
    void       when it is withdrawn, or when who made it is no ADMIN of one of the teams any more

Nothing is sent by e-mail: the link is shown to who invites, once. Only a hash of its token is kept.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import ForbiddenError, TeamNotFoundError
from api_server.auth.interfaces import Action, Decision
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller
from api_server.teams.errors import (
    InvitationAddressError,
    InvitationExpiredError,
    InvitationNotFoundError,
    InvitationUsedError,
)
from api_server.teams.records import Invitation, Invited, who
from api_server.teams.roles import Role
from api_server.teams.store import TeamStore
from api_server.teams.tables import invitation_teams, invitations
from common.clock import Clock
from common.crypto.api_tokens import INVITATION_TOKEN_PREFIX, checksum_holds, new_token, stored_hash
from common.ids import TeamId, new_id
from common.secret import Secret

__all__ = ["MAX_LIFETIME", "InvitationService"]

MAX_LIFETIME = 7 * 86400.0
"""Seconds that an invitation may hold."""

_NOT_FOUND = "there is no such invitation, or its token is another"


class InvitationService:
    """Makes, shows, withdraws and accepts invitations.

    Args:
        database: where they are kept.
        audit: gets a line for each change.
        changes: told whose rights have changed.
        clock: wall time.
    """

    def __init__(self, database: Database, audit: AuditLog, changes: ChangeLog, clock: Clock) -> None:
        self._database = database
        self._audit = audit
        self._changes = changes
        self._clock = clock
        self._teams = TeamStore()

    async def create(
        self, caller: Caller, email: str, teams: Sequence[Invited], expires_in: float
    ) -> tuple[Invitation, Secret]:
        """Make an invitation.

        Returns:
            It, and its token, which cannot be had again.

        Raises:
            ForbiddenError: the caller is in one of the teams without the right to invite.
            TeamNotFoundError: one of the teams does not exist, or the caller is not in it.
            ValidationFailedError: a team is named twice.
        """
        if len({each.team for each in teams}) != len(teams):
            raise ValidationFailedError("body: a team is named twice")
        for each in teams:
            _check_may_invite(caller, TeamId(each.team))
        now = self._clock.wall()
        token = new_token(INVITATION_TOKEN_PREFIX)
        made = Invitation(
            id=new_id("inv"),
            email=email,
            teams=list(teams),
            created_by=who(caller.identity.kind, caller.identity.id),
            created_at=now,
            expires_at=now + expires_in,
            accepted_at=None,
            accepted_by=None,
            revoked_at=None,
        )

        async def work(tx: AsyncConnection) -> None:
            for team in sorted(each.team for each in teams):
                if not await self._teams.lock(tx, TeamId(team)):
                    raise TeamNotFoundError("there is no such team, or you do not belong to it")
            await tx.execute(
                insert(invitations).values(
                    id=made.id,
                    token_hash=stored_hash(token),
                    email=email,
                    created_by=made.created_by,
                    created_at=now,
                    expires_at=made.expires_at,
                )
            )
            rows = [{"invitation_id": made.id, "team_id": each.team, "role": each.role} for each in teams]
            await tx.execute(insert(invitation_teams), rows)
            await self._record(tx, caller, made, "invitation.created")

        await self._database.write(work)
        return made, token

    async def in_team(self, team: TeamId, *, limit: int, after: str | None) -> list[Invitation]:
        """Invitations that name a team, in the order of their ids."""

        async def work(tx: AsyncConnection) -> list[Invitation]:
            named = select(invitation_teams.c.invitation_id).where(invitation_teams.c.team_id == team)
            query = select(invitations.c.id).where(invitations.c.id.in_(named)).order_by(invitations.c.id).limit(limit)
            if after is not None:
                query = query.where(invitations.c.id > after)
            ids = (await tx.execute(query)).scalars().all()
            found = [await self._get(tx, each) for each in ids]
            return [each for each in found if each is not None]

        return await self._database.read(work)

    async def show(self, caller: Caller, invitation: str) -> Invitation:
        """One invitation.

        Raises:
            InvitationNotFoundError: there is none, or it names no team in which the caller may invite.
        """
        return _visible(caller, await self._database.read(lambda tx: self._get(tx, invitation)))

    async def revoke(self, caller: Caller, invitation: str) -> None:
        """Withdraw an invitation; one that is withdrawn stays so.

        Raises:
            InvitationNotFoundError: there is none, or it names no team in which the caller may invite.
            InvitationUsedError: it has been accepted; remove the member instead.
        """
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> None:
            found = _visible(caller, await self._get(tx, invitation))
            if found.revoked_at is not None:
                return
            open_ones = invitations.c.accepted_at.is_(None) & invitations.c.revoked_at.is_(None)
            changed = await tx.execute(
                update(invitations).where(invitations.c.id == invitation, open_ones).values(revoked_at=now)
            )
            if changed.rowcount != 1:
                raise InvitationUsedError("it has been accepted; remove the member instead")
            await self._record(tx, caller, found, "invitation.revoked")

        await self._database.write(work)

    async def accept(self, caller: Caller, invitation: str, token: Secret) -> Invitation:
        """Become a member of the teams that an invitation names. In a team that one belongs to, the higher role stays.
        To do it twice is no error.

        Raises:
            ForbiddenError: the caller is no person.
            InvitationAddressError, InvitationExpiredError, InvitationNotFoundError, InvitationUsedError: see there.
        """
        if caller.identity.kind != "user":
            raise ForbiddenError("only a person who has signed in can accept an invitation")
        user, now = caller.identity.id, self._clock.wall()
        if not checksum_holds(token.reveal(), INVITATION_TOKEN_PREFIX):
            raise InvitationNotFoundError(_NOT_FOUND)

        async def work(tx: AsyncConnection) -> tuple[Invitation, list[Change]]:
            changes: list[Change] = []
            query = select(invitations.c.token_hash).where(invitations.c.id == invitation)
            digest = (await tx.execute(query)).scalar()
            if digest is None or not hmac.compare_digest(digest, stored_hash(token)):
                raise InvitationNotFoundError(_NOT_FOUND)
            found = await self._get(tx, invitation)
            assert found is not None
            await self._check_acceptable(tx, found, user, now)
            if found.accepted_by == user:
                return found, []
            for team in sorted(each.team for each in found.teams):
                if not await self._teams.lock(tx, TeamId(team)):
                    raise InvitationExpiredError(f"the team {team} is no more")
            await self._check_backed(tx, found)
            # Only one of those who come at the same time changes the row (A1: single use).
            still_open = invitations.c.accepted_at.is_(None) & invitations.c.revoked_at.is_(None)
            changed = await tx.execute(
                update(invitations)
                .where(invitations.c.id == invitation, still_open, invitations.c.expires_at > now)
                .values(accepted_at=now, accepted_by=user)
            )
            if changed.rowcount != 1:
                raise InvitationUsedError("somebody was faster")
            for each in found.teams:
                before = await self._teams.role_of(tx, TeamId(each.team), user)
                if before is None or _RANK[each.role] < _RANK[before]:
                    team = TeamId(each.team)
                    await self._teams.set_role(tx, team, user, each.role, now=now, added_by=found.created_by)
                    change = Change(topic=Topic.PEOPLE, team=team, subject=user)
                    changes.append(await self._changes.record(tx, change))
            await self._record(tx, caller, found, "invitation.accepted")
            accepted = await self._get(tx, invitation)
            assert accepted is not None
            return accepted, changes

        accepted, changes = await self._database.write(work)
        await self._changes.announce(changes)
        return accepted

    async def _check_acceptable(self, tx: AsyncConnection, invitation: Invitation, user: str, now: float) -> None:
        if invitation.accepted_by not in (None, user):
            raise InvitationUsedError("an invitation is good for one user; ask for another one")
        if invitation.revoked_at is not None:
            raise InvitationExpiredError("the invitation was withdrawn")
        if invitation.accepted_by is None and invitation.expires_at <= now:
            raise InvitationExpiredError("the invitation is too old; ask for another one")
        email = await self._teams.verified_email(tx, user)
        if email is None or email.casefold() != invitation.email.casefold():
            raise InvitationAddressError(
                "the invitation is for another e-mail address than the one your sign-in provider vouches for"
            )

    async def _check_backed(self, tx: AsyncConnection, invitation: Invitation) -> None:
        """Whether who made it could still make it."""
        kind, _, creator = invitation.created_by.partition(":")
        if kind != "user":
            return
        for each in invitation.teams:
            if await self._teams.role_of(tx, TeamId(each.team), creator) is not Role.ADMIN:
                raise InvitationExpiredError(f"who invited you is no longer ADMIN of {each.team}")

    async def _get(self, tx: AsyncConnection, invitation: str) -> Invitation | None:
        columns = [column for column in invitations.c if column is not invitations.c.token_hash]
        row = (await tx.execute(select(*columns).where(invitations.c.id == invitation))).first()
        if row is None:
            return None
        query = (
            select(invitation_teams.c.team_id, invitation_teams.c.role)
            .where(invitation_teams.c.invitation_id == invitation)
            .order_by(invitation_teams.c.team_id)
        )
        named = [Invited(team=team, role=Role(role)) for team, role in await tx.execute(query)]
        return Invitation(**row._mapping, teams=named)

    async def _record(self, tx: AsyncConnection, caller: Caller, invitation: Invitation, action: str) -> None:
        """A line for each team that it names, so that each team's log is whole."""
        after = {"email": invitation.email, "teams": {each.team: each.role for each in invitation.teams}}
        for each in sorted(invitation.teams, key=lambda invited: invited.team):
            entry = entry_of(caller, TeamId(each.team), action, ("invitation", invitation.id), after=after)
            await self._audit.record(tx, entry)


_RANK = {role: rank for rank, role in enumerate(Role)}
"""From the most to the least."""


def _check_may_invite(caller: Caller, team: TeamId) -> None:
    match caller.identity.decide(Action.USERS_INVITE, team):
        case Decision.UNKNOWN_TEAM:
            raise TeamNotFoundError("there is no such team, or you do not belong to it")
        case Decision.FORBIDDEN:
            raise ForbiddenError(f"{caller.identity.name!r} may not invite to {team}")
        case Decision.ALLOWED:
            pass


def _visible(caller: Caller, invitation: Invitation | None) -> Invitation:
    if invitation is None or not any(
        caller.identity.may(Action.USERS_INVITE, TeamId(each.team)) for each in invitation.teams
    ):
        raise InvitationNotFoundError(_NOT_FOUND)
    return invitation
