"""Users and their sessions in the database; implements `interfaces.SignInStore`.

Each method is one transaction with its line in the audit log, which is written last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import DONE, REFUSED, Actor, AuditEntry
from api_server.auth.oidc import LogoutClaims, Person
from api_server.auth.signin.errors import LogoutTokenReplayedError, UserDisabledError
from api_server.auth.signin.interfaces import (
    FirstAdmin,
    LiveSession,
    NewSession,
    SessionRecord,
    SignedIn,
    UserRecord,
    Visit,
)
from api_server.auth.signin.tables import installation, once, user_sessions, users
from api_server.db.database import Database
from api_server.db.errors import DatabaseConflictError
from common.ids import TeamId, new_id

__all__ = ["DatabaseSignInStore"]

_KEPT_AFTER_END = 30 * 24 * 3600.0
"""Seconds that an ended session is kept, for whoever has to find out what happened."""

_MAX_SESSIONS_SHOWN = 200

_NOBODY = Actor("system", "sign-in", "somebody who signs in")
_PROVIDER = Actor("system", "identity-provider", "identity provider")


class DatabaseSignInStore:
    """Implements `SignInStore`.

    Args:
        database: where it is kept.
        audit: gets a line for each change.
        first_admin: takes the claim of the first person.
    """

    def __init__(self, database: Database, audit: AuditLog, first_admin: FirstAdmin) -> None:
        self._database = database
        self._audit = audit
        self._first_admin = first_admin

    async def spend(self, kind: str, key: str, expires_at: float) -> bool:
        async def work(tx: AsyncConnection) -> None:
            await tx.execute(insert(once).values(kind=kind, key=key, expires_at=expires_at))

        try:
            await self._database.write(work)
        except DatabaseConflictError:
            return False
        return True

    async def sign_in(self, person: Person, session: NewSession, visit: Visit, now: float) -> SignedIn:
        async def work(tx: AsyncConnection) -> SignedIn:
            user = await self._upsert(tx, person, now)
            claimed = await self._claim(tx, user, now)
            if session.replaces is not None:
                await tx.execute(
                    update(user_sessions)
                    .where(user_sessions.c.secret_hash == session.replaces, user_sessions.c.ended_at.is_(None))
                    .values(ended_at=now, end_reason="replaced")
                )
            session_id = new_id("uss")
            await tx.execute(
                insert(user_sessions).values(
                    id=session_id,
                    secret_hash=session.secret_hash,
                    user_id=user.id,
                    created_at=now,
                    last_seen_at=now,
                    idle_seconds=session.idle_seconds,
                    expires_at=session.expires_at,
                    issuer=person.issuer,
                    provider_sid=person.provider_session,
                    user_agent=visit.user_agent[:400],
                    address=visit.address[:64],
                )
            )
            if claimed is not None:
                await self._record(
                    tx, visit, "installation.claimed", _actor(user), target=("user", user.id), team=claimed
                )
            await self._record(tx, visit, "session.started", _actor(user), target=("session", session_id))
            return SignedIn(user=user, session=session_id, claimed=claimed)

        try:
            return await self._database.write(work)
        except DatabaseConflictError:
            # The same person came in twice at once, for the first time: now there is a row.
            return await self._database.write(work)

    async def _upsert(self, tx: AsyncConnection, person: Person, now: float) -> UserRecord:
        told = {"email": person.email, "email_verified": person.email_verified, "name": person.name}
        query = select(users.c.id, users.c.disabled_at).where(
            users.c.issuer == person.issuer, users.c.subject == person.subject
        )
        row = (await tx.execute(query.with_for_update())).first()
        if row is None:
            user_id = new_id("usr")
            await tx.execute(
                insert(users).values(
                    id=user_id,
                    issuer=person.issuer,
                    subject=person.subject,
                    created_at=now,
                    last_sign_in_at=now,
                    **told,
                )
            )
        else:
            user_id = row.id
            if row.disabled_at is not None:
                raise UserDisabledError(
                    f"{person.name} may not sign in here; an administrator has locked this user out"
                )
            await tx.execute(update(users).where(users.c.id == user_id).values(last_sign_in_at=now, **told))
        return UserRecord(id=user_id, name=person.name, email=person.email)

    async def _claim(self, tx: AsyncConnection, user: UserRecord, now: float) -> TeamId | None:
        """Make the very first person ADMIN of the first team. The update is what decides: of two at once, the second
        waits for the first, and then finds nothing to change.
        """
        row = (await tx.execute(select(installation.c.team, installation.c.claimed_by))).first()
        if row is None or row.claimed_by is not None:
            return None
        claim = await tx.execute(
            update(installation)
            .where(installation.c.id == 1, installation.c.claimed_by.is_(None))
            .values(claimed_by=user.id, claimed_at=now)
        )
        if claim.rowcount != 1:
            return None
        team = TeamId(row.team)
        await self._first_admin.make_first_admin(tx, team, user.id, now)
        return team

    async def live_session(self, secret_hash: str, now: float) -> LiveSession | None:
        return await self._live(user_sessions.c.secret_hash == secret_hash, now)

    async def session_by_id(self, session: str, now: float) -> LiveSession | None:
        return await self._live(user_sessions.c.id == session, now)

    async def _live(self, which: ColumnElement[bool], now: float) -> LiveSession | None:
        async def work(tx: AsyncConnection) -> LiveSession | None:
            row = (await tx.execute(_LIVE.where(which))).first()
            if row is None or row.expires_at <= now or row.last_seen_at + row.idle_seconds <= now:
                return None
            return LiveSession(
                id=row.id,
                user=UserRecord(id=row.user_id, name=row.name, email=row.email),
                last_seen_at=row.last_seen_at,
                idle_seconds=row.idle_seconds,
                expires_at=row.expires_at,
            )

        return await self._database.read(work)

    async def seen(self, session: str, now: float) -> None:
        async def work(tx: AsyncConnection) -> None:
            await tx.execute(
                update(user_sessions)
                .where(user_sessions.c.id == session, user_sessions.c.last_seen_at < now)
                .values(last_seen_at=now)
            )

        await self._database.write(work)

    async def sessions_of(self, user: str, now: float) -> list[SessionRecord]:
        async def work(tx: AsyncConnection) -> list[SessionRecord]:
            query = _LIVE.where(user_sessions.c.user_id == user, user_sessions.c.expires_at > now)
            rows = await tx.execute(query.order_by(user_sessions.c.created_at.desc()).limit(_MAX_SESSIONS_SHOWN))
            return [
                SessionRecord(
                    id=row.id,
                    created_at=row.created_at,
                    last_seen_at=row.last_seen_at,
                    expires_at=row.expires_at,
                    user_agent=row.user_agent,
                    address=row.address,
                    current=False,
                )
                for row in rows
                if row.last_seen_at + row.idle_seconds > now
            ]

        return await self._database.read(work)

    async def end_session(self, user: UserRecord, session: str, reason: str, visit: Visit, now: float) -> bool:
        async def work(tx: AsyncConnection) -> bool:
            ended = await tx.execute(
                update(user_sessions)
                .where(
                    user_sessions.c.id == session,
                    user_sessions.c.user_id == user.id,
                    user_sessions.c.ended_at.is_(None),
                )
                .values(ended_at=now, end_reason=reason)
            )
            if ended.rowcount:
                await self._record(
                    tx, visit, "session.ended", _actor(user), target=("session", session), after={"reason": reason}
                )
            return bool(ended.rowcount)

        return await self._database.write(work)

    async def end_sessions_of(self, tx: AsyncConnection, user: str, reason: str, now: float) -> None:
        """End all sessions of a user, as part of a transaction (`api_server.teams.interfaces.AccountEnder`)."""
        await tx.execute(
            update(user_sessions)
            .where(user_sessions.c.user_id == user, user_sessions.c.ended_at.is_(None))
            .values(ended_at=now, end_reason=reason)
        )

    async def log_out(self, claims: LogoutClaims, visit: Visit, now: float) -> int:
        async def work(tx: AsyncConnection) -> int:
            spent = insert(once).values(kind="logout_token", key=claims.token_id, expires_at=claims.expires_at)
            await tx.execute(spent)
            # Row by row, in one order, so that two logouts do not wait for each other.
            ids = (await tx.execute(_named_by(claims).order_by(user_sessions.c.id))).scalars().all()
            for each in ids:
                await tx.execute(
                    update(user_sessions)
                    .where(user_sessions.c.id == each, user_sessions.c.ended_at.is_(None))
                    .values(ended_at=now, end_reason="provider")
                )
            for each in ids:
                after = {"reason": "provider"}
                await self._record(tx, visit, "session.ended", _PROVIDER, target=("session", each), after=after)
            return len(ids)

        try:
            return await self._database.write(work)
        except DatabaseConflictError as exc:
            raise LogoutTokenReplayedError("a logout token counts once") from exc

    async def refused(self, reason: str, visit: Visit) -> None:
        async def work(tx: AsyncConnection) -> None:
            after = {"reason": reason}
            await self._record(
                tx, visit, "session.started", _NOBODY, target=("session", ""), after=after, outcome=REFUSED
            )

        await self._database.write(work)

    async def forget(self, now: float) -> None:
        async def work(tx: AsyncConnection) -> None:
            await tx.execute(delete(once).where(once.c.expires_at < now))
            await tx.execute(delete(user_sessions).where(user_sessions.c.expires_at < now - _KEPT_AFTER_END))

        await self._database.write(work)

    async def _record(
        self,
        tx: AsyncConnection,
        visit: Visit,
        action: str,
        actor: Actor,
        *,
        target: tuple[str, str],
        team: TeamId | None = None,
        after: Mapping[str, Any] | None = None,
        outcome: str = DONE,
    ) -> None:
        await self._audit.record(
            tx,
            AuditEntry(
                actor=actor,
                team=team,
                action=action,
                target_kind=target[0],
                target_id=target[1],
                after=after,
                request_id=visit.request_id,
                address=visit.address,
                outcome=outcome,
            ),
        )


_LIVE = (
    select(
        user_sessions.c.id,
        user_sessions.c.user_id,
        user_sessions.c.created_at,
        user_sessions.c.last_seen_at,
        user_sessions.c.idle_seconds,
        user_sessions.c.expires_at,
        user_sessions.c.user_agent,
        user_sessions.c.address,
        users.c.name,
        users.c.email,
    )
    .join(users, users.c.id == user_sessions.c.user_id)
    .where(user_sessions.c.ended_at.is_(None), users.c.disabled_at.is_(None))
)
"""Sessions that have not ended, of users who are not locked out; the times are for the caller to compare."""


def _named_by(claims: LogoutClaims) -> Select[Any]:
    """The ids of the sessions that a logout token ends: the one that it names; all of the subject when it names none.
    A session of the subject whose own name the provider did not tell counts as named: better ended than left open.
    """
    query = (
        select(user_sessions.c.id)
        .join(users, users.c.id == user_sessions.c.user_id)
        .where(user_sessions.c.issuer == claims.issuer, user_sessions.c.ended_at.is_(None))
    )
    of_subject = and_(users.c.issuer == claims.issuer, users.c.subject == claims.subject)
    if claims.provider_session is None:
        return query.where(of_subject)
    named = user_sessions.c.provider_sid == claims.provider_session
    if claims.subject is None:
        return query.where(named)
    return query.where(of_subject, or_(named, user_sessions.c.provider_sid.is_(None)))


def _actor(user: UserRecord) -> Actor:
    return Actor(kind="user", id=user.id, name=user.name)
