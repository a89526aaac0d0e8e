"""What stands for the database and the teams in tests of sign-in."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from api_server.auth.oidc import LogoutClaims, Person
from api_server.auth.signin.errors import LogoutTokenReplayedError, UserDisabledError
from api_server.auth.signin.interfaces import (
    LiveSession,
    NewSession,
    SessionRecord,
    SignedIn,
    UserRecord,
    Visit,
)
from api_server.db.errors import DatabaseUnavailableError
from api_server.teams.roles import Role
from common.ids import TeamId, new_id

__all__ = ["FakeTeams", "MemorySignInStore"]


class _Kept(msgspec.Struct, kw_only=True):
    new: NewSession
    user: str
    person: Person
    visit: Visit
    created_at: float
    last_seen_at: float
    ended: str | None = None


class MemorySignInStore:
    """A `SignInStore` in memory, for one process. `away` makes every call fail."""

    def __init__(self) -> None:
        self.users: dict[tuple[str, str], UserRecord] = {}
        self.disabled: set[str] = set()
        self.sessions: dict[str, _Kept] = {}
        self.spent: set[tuple[str, str]] = set()
        self.refusals: list[str] = []
        self.asked = 0
        self.touched = 0
        self.forgotten = 0
        self.away = False

    def _answer(self) -> None:
        if self.away:
            raise DatabaseUnavailableError

    async def spend(self, kind: str, key: str, expires_at: float) -> bool:
        self._answer()
        if (kind, key) in self.spent:
            return False
        self.spent.add((kind, key))
        return True

    async def sign_in(self, person: Person, session: NewSession, visit: Visit, now: float) -> SignedIn:
        self._answer()
        key = (person.issuer, person.subject)
        known = self.users.get(key)
        if known is not None and known.id in self.disabled:
            raise UserDisabledError
        user = UserRecord(id=known.id if known else new_id("usr"), name=person.name, email=person.email)
        self.users[key] = user
        for kept in self.sessions.values():
            if kept.new.secret_hash == session.replaces and kept.ended is None:
                kept.ended = "replaced"
        session_id = new_id("uss")
        self.sessions[session_id] = _Kept(
            new=session, user=user.id, person=person, visit=visit, created_at=now, last_seen_at=now
        )
        return SignedIn(user=user, session=session_id, claimed=None)

    async def live_session(self, secret_hash: str, now: float) -> LiveSession | None:
        named = [each for each, kept in self.sessions.items() if kept.new.secret_hash == secret_hash]
        return await self.session_by_id(named[0] if named else "", now)

    async def session_by_id(self, session: str, now: float) -> LiveSession | None:
        self._answer()
        self.asked += 1
        for session_id, kept in self.sessions.items():
            if session_id == session and self._lives(kept, now):
                return LiveSession(
                    id=session_id,
                    user=next(user for user in self.users.values() if user.id == kept.user),
                    last_seen_at=kept.last_seen_at,
                    idle_seconds=kept.new.idle_seconds,
                    expires_at=kept.new.expires_at,
                )
        return None

    def _lives(self, kept: _Kept, now: float) -> bool:
        idle = kept.last_seen_at + kept.new.idle_seconds <= now
        return kept.ended is None and kept.user not in self.disabled and not idle and kept.new.expires_at > now

    async def seen(self, session: str, now: float) -> None:
        self._answer()
        self.touched += 1
        self.sessions[session].last_seen_at = now

    async def sessions_of(self, user: str, now: float) -> list[SessionRecord]:
        self._answer()
        return [
            SessionRecord(
                id=session_id,
                created_at=kept.created_at,
                last_seen_at=kept.last_seen_at,
                expires_at=kept.new.expires_at,
                user_agent=kept.visit.user_agent,
                address=kept.visit.address,
                current=False,
            )
            for session_id, kept in reversed(self.sessions.items())
            if kept.user == user and self._lives(kept, now)
        ]

    async def end_session(self, user: UserRecord, session: str, reason: str, visit: Visit, now: float) -> bool:
        self._answer()
        kept = self.sessions.get(session)
        if kept is None or kept.user != user.id or kept.ended is not None:
            return False
        kept.ended = reason
        return True

    async def log_out(self, claims: LogoutClaims, visit: Visit, now: float) -> int:
        if not await self.spend("logout_token", claims.token_id, claims.expires_at):
            raise LogoutTokenReplayedError
        named = [
            kept
            for kept in self.sessions.values()
            if kept.ended is None
            and kept.person.issuer == claims.issuer
            and claims.subject in (None, kept.person.subject)
            and (claims.provider_session in (None, kept.person.provider_session))
        ]
        for kept in named:
            kept.ended = "provider"
        return len(named)

    async def refused(self, reason: str, visit: Visit) -> None:
        self._answer()
        self.refusals.append(reason)

    async def forget(self, now: float) -> None:
        self.forgotten += 1
        self._answer()


class FakeTeams:
    """Everybody has the same roles."""

    def __init__(self, roles: Mapping[TeamId, Role] | None = None) -> None:
        self.roles = dict(roles or {})

    async def teams_of(self, user: str) -> Mapping[TeamId, Role]:
        return dict(self.roles)

    async def first_team(self) -> TeamId:
        return TeamId("home")

    async def names_of(self, ids: frozenset[TeamId]) -> Mapping[TeamId, str]:
        return {team: f"Team {team}" for team in ids}
