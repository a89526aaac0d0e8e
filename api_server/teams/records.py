"""What the domain's stores give and its endpoints show. Times are seconds since the Unix epoch."""

from __future__ import annotations

import msgspec

from api_server.teams.roles import Role
from common.ids import TeamId

__all__ = ["Invitation", "Invited", "Member", "Team", "User", "who"]


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """A team."""

    id: TeamId
    """As it stands in paths and credentials; it never changes."""
    name: str
    """For people."""
    description: str
    created_at: float
    members: int


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A user in a team."""

    user: str
    name: str
    email: str | None
    role: Role
    since: float
    disabled: bool
    """Whether the user is locked out of the installation."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who has signed in."""

    id: str
    name: str
    email: str | None
    created_at: float
    last_sign_in_at: float
    disabled_at: float | None


class Invited(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A team and the role in it."""

    team: str
    role: Role


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation, without its token."""

    id: str
    email: str
    """The sign-in provider must vouch for this address before it is accepted."""
    teams: list[Invited]
    created_by: str
    """`user:` or `token:` and the id."""
    created_at: float
    expires_at: float
    accepted_at: float | None
    accepted_by: str | None
    revoked_at: float | None


def who(kind: str, id: str) -> str:  # noqa: A002  the field's word
    """How a creator is kept: `user:usr_...` or `token:hp_...`."""
    return f"{kind}:{id}"
