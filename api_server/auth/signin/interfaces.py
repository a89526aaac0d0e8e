"""What sign-in keeps, what it asks of others, and what it offers them. Times are seconds since the Unix epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.oidc import LogoutClaims, Person
from common.ids import TeamId
from common.secret import Secret

__all__ = [
    "FirstAdmin",
    "LiveSession",
    "NewSession",
    "SessionRecord",
    "SignInStore",
    "SignedIn",
    "TeamNames",
    "UserRecord",
    "Visit",
]


class UserRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who has signed in."""

    id: str
    name: str
    email: str | None


class LiveSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that may be used now, and whose it is."""

    id: str
    user: UserRecord
    last_seen_at: float
    idle_seconds: int
    expires_at: float


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A session, as its owner sees it."""

    id: str
    created_at: float
    last_seen_at: float
    expires_at: float
    """The end, whatever happens until then."""
    user_agent: str
    """As the browser named itself when it signed in."""
    address: str
    """Where it signed in from."""
    current: bool
    """Whether it is the one that asks."""


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """A request, for the record."""

    address: str
    request_id: str
    user_agent: str = ""


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session to be made."""

    secret_hash: str
    replaces: str | None
    """Hash of the session that the browser had until now."""
    idle_seconds: int
    expires_at: float


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a sign-in."""

    user: UserRecord
    session: str
    """Its id."""
    claimed: TeamId | None
    """The team that this first person of the installation is ADMIN of now."""


class FirstAdmin(Protocol):
    """Gives the first person of an installation its first team."""

    async def make_first_admin(self, tx: AsyncConnection, team: TeamId, user: str, now: float) -> None:
        """Make a user ADMIN of the first team, as part of a transaction."""
        ...


class TeamNames(Protocol):
    """Tells what teams are called."""

    async def names_of(self, ids: frozenset[TeamId]) -> Mapping[TeamId, str]:
        """The names for people of those of the teams that exist.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...


class OfflineTokens(Protocol):
    """Where offline tokens are kept, for the time that people are away."""

    async def keep(
        self, user: UserRecord, token: Secret, *, expires_at: float, scopes: tuple[str, ...], visit: Visit
    ) -> None:
        """Keep the offline token that came with a sign-in, in place of the one before.

        Args:
            user: whose it is.
            token: a refresh token.
            expires_at: seconds since the Unix epoch; 0 for never.
            scopes: that were granted.
            visit: for the record.

        Raises:
            HomeportError: it is not kept.
        """
        ...


class SignInStore(Protocol):
    """Users, their sessions, and what happens once. Every method can raise `DatabaseError`."""

    async def spend(self, kind: str, key: str, expires_at: float) -> bool:
        """Whether this is the first time, of all processes, that `key` of that kind is spent.

        Args:
            kind: of one-time thing.
            key: which one.
            expires_at: when it may be forgotten, because something else refuses it then.
        """
        ...

    async def sign_in(self, person: Person, session: NewSession, visit: Visit, now: float) -> SignedIn:
        """Write down that somebody signed in: user, session, the first person's claim and the audit lines, or nothing.

        Raises:
            UserDisabledError: somebody locked this person out.
        """
        ...

    async def live_session(self, secret_hash: str, now: float) -> LiveSession | None:
        """The session, if it may be used: not ended, expired or idle for too long, its user not locked out."""
        ...

    async def session_by_id(self, session: str, now: float) -> LiveSession | None:
        """The same, found by its id."""
        ...

    async def seen(self, session: str, now: float) -> None:
        """Write down that a session was used."""
        ...

    async def sessions_of(self, user: str, now: float) -> list[SessionRecord]:
        """The sessions of a user that may be used, newest first; `current` is left false."""
        ...

    async def end_session(self, user: UserRecord, session: str, reason: str, visit: Visit, now: float) -> bool:
        """End a session of the user; whether there was one to end."""
        ...

    async def log_out(self, claims: LogoutClaims, visit: Visit, now: float) -> int:
        """End the sessions that the provider names; how many there were.

        Raises:
            LogoutTokenReplayedError: the token was used before.
        """
        ...

    async def refused(self, reason: str, visit: Visit) -> None:
        """Write an audit line about a sign-in that came to nothing."""
        ...

    async def forget(self, now: float) -> None:
        """Drop what nobody can use any more."""
        ...
