"""Errors of teams, members, users and invitations.

HomeportError
└── TeamError
    ├── TeamNameTakenError            409 team_name_taken                 a team has, or once had, that name
    ├── TeamNotEmptyError             409 team_not_empty                  it has members beside oneself, or devices
    ├── MemberNotFoundError           404 no_such_member                  the user is not a member of the team
    ├── LastAdminError                409 last_admin                      a team without an ADMIN could not be run
    ├── UserNotFoundError             404 no_such_user                    no such user
    ├── OwnAccountError               409 own_account                     one cannot disable oneself
    ├── InvitationNotFoundError       404 no_such_invitation              no such invitation, or not that token
    ├── InvitationExpiredError        410 invitation_expired              too late, withdrawn, or no longer backed
    ├── InvitationUsedError           409 invitation_used                 somebody has accepted it
    └── InvitationAddressError        403 invitation_for_another_address  it was made for another e-mail address
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "InvitationAddressError",
    "InvitationExpiredError",
    "InvitationNotFoundError",
    "InvitationUsedError",
    "LastAdminError",
    "MemberNotFoundError",
    "OwnAccountError",
    "TeamError",
    "TeamNameTakenError",
    "TeamNotEmptyError",
    "UserNotFoundError",
]


class TeamError(HomeportError):
    """Base of the errors of teams."""


class TeamNameTakenError(TeamError):
    """A team has, or once had, that name: names are not given out twice, because credentials carry them."""

    code: ClassVar[str] = "team_name_taken"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The team's name is taken"


class TeamNotEmptyError(TeamError):
    """The team has members beside oneself, or devices; the detail names up to five of them."""

    code: ClassVar[str] = "team_not_empty"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The team is not empty"


class MemberNotFoundError(TeamError):
    """The user is not a member of the team."""

    code: ClassVar[str] = "no_such_member"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such member"


class LastAdminError(TeamError):
    """A team without an ADMIN could not be run. Make somebody else ADMIN first."""

    code: ClassVar[str] = "last_admin"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The last ADMIN stays"


class UserNotFoundError(TeamError):
    """No such user."""

    code: ClassVar[str] = "no_such_user"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such user"


class OwnAccountError(TeamError):
    """One cannot disable oneself."""

    code: ClassVar[str] = "own_account"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "Not one's own account"


class InvitationNotFoundError(TeamError):
    """No such invitation, or one whose token is another: never told apart."""

    code: ClassVar[str] = "no_such_invitation"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such invitation"


class InvitationExpiredError(TeamError):
    """It is too late, or the invitation was withdrawn, or who made it may not invite any more."""

    code: ClassVar[str] = "invitation_expired"
    status: ClassVar[int] = 410
    title: ClassVar[str] = "The invitation holds no longer"


class InvitationUsedError(TeamError):
    """Somebody has accepted it; an invitation is good for one user."""

    code: ClassVar[str] = "invitation_used"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The invitation is used"


class InvitationAddressError(TeamError):
    """It was made for another e-mail address than the one that the sign-in provider vouches for."""

    code: ClassVar[str] = "invitation_for_another_address"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The invitation is for somebody else"
