"""What is written down of a refresh, so that a crash costs no grant (criterion B5).

A provider that rotates refresh tokens takes the old one when it gives the new one. Between its answer and our commit
there is a moment in which only a process knows the new one; this makes the moment as short as one small statement, and
leaves a mark that there was one:

    begin      before the request: which version's refresh token is sent, under the lease that allows it
    answered   as soon as the answer is there, before anything else is done with it: the answer, sealed
    failed     there is no answer: why, and when to try again
    settle     in the transaction that changes the record: the mark goes

What a process finds when it comes to a grant whose lease is free:

    no mark                 nothing is under way
    a mark with an answer   the answer is to be kept: nothing is lost
    a mark without one      the outcome is not known: the refresh token may be spent. It is sent once more when the
                            access token has run out, and what the provider says then is the outcome
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.db.database import Database, written
from api_server.leases.interfaces import Lease, Leases
from api_server.provider_tokens.grants.records import Grant, GrantKey
from api_server.provider_tokens.providers.answers import GivenTokens
from api_server.provider_tokens.tables import refresh_attempts
from common.clock import Clock
from common.crypto.envelope import Envelope, SealContext
from common.ids import new_id
from common.secret import Secret

__all__ = ["OUTCOME_UNKNOWN", "Attempt", "Attempts", "Problem", "RefreshAnswer"]

OUTCOME_UNKNOWN: Final = "refresh_outcome_unknown"
"""The code of a try whose refresh token may be spent."""


@dataclass(frozen=True, slots=True)
class RefreshAnswer:
    """What the provider gave, and when it was asked: lives count from there."""

    given: GivenTokens
    asked_at: float

    def renew(self, grant: Grant) -> Grant:
        """The grant with what was given. A provider that gives no new refresh token lets the old one hold on (RFC 6749
        section 6).
        """
        given, asked_at = self.given, self.asked_at
        refresh_expires_at = grant.refresh_token_expires_at
        if given.refresh_expires_in is not None:
            refresh_expires_at = asked_at + given.refresh_expires_in
        elif given.refresh_token is not None:
            refresh_expires_at = 0.0
        return dataclasses.replace(
            grant,
            access_token=given.access_token,
            refresh_token=given.refresh_token if given.refresh_token is not None else grant.refresh_token,
            access_token_expires_at=0.0 if given.expires_in is None else asked_at + given.expires_in,
            refresh_token_expires_at=refresh_expires_at,
            issued_at=asked_at,
            scopes=given.scopes if given.scopes is not None else grant.scopes,
            dead=None,
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """A refresh that has begun."""

    id: str
    version: int
    """Of the record whose refresh token was sent."""
    tries: int
    started_at: float
    """Of the last try."""
    problem: str | None = None
    """A code: why the last try is known to have brought nothing."""
    retry_at: float | None = None
    doubtful: bool = False
    """Whether a try before this one may have spent the refresh token."""
    answer: RefreshAnswer | None = field(default=None, repr=False)

    @property
    def is_unknown(self) -> bool:
        """Whether the last try may have spent the refresh token, or may be doing so."""
        return self.answer is None and self.problem in (None, OUTCOME_UNKNOWN)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is known of a refresh without an answer, for people."""

    code: str | None
    """Why the last try brought nothing; None while nobody knows what became of it."""
    since: float
    """When the last try began."""

    @property
    def is_unknown(self) -> bool:
        """Whether the refresh token may be spent."""
        return self.code in (None, OUTCOME_UNKNOWN)


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it is sealed."""

    access_token: str
    refresh_token: str | None
    expires_in: float | None
    refresh_expires_in: float | None
    scopes: tuple[str, ...] | None
    asked_at: float

    def __repr__(self) -> str:
        return "_Answer(***)"


class Attempts:
    """Keeps them.

    Args:
        database: that the processes share.
        envelope: seals answers.
        leases: whose fencing tokens are checked.
        clock: wall time.
    """

    def __init__(self, database: Database, envelope: Envelope, leases: Leases, clock: Clock) -> None:
        self._database = database
        self._envelope = envelope
        self._leases = leases
        self._clock = clock

    async def pending(self, key: GrantKey) -> Attempt | None:
        """The mark of a grant; None when there is none.

        Raises:
            DatabaseError: it cannot be told.
            SealError: its answer was altered, or its key is missing.
        """
        query = select(refresh_attempts).where(refresh_attempts.c.record_id == key.record_id)

        async def work(tx: AsyncConnection) -> Attempt | None:
            row = (await tx.execute(query)).one_or_none()
            if row is None:
                return None
            return Attempt(
                id=row.attempt_id,
                version=row.version,
                tries=row.tries,
                started_at=row.started_at,
                problem=row.problem,
                retry_at=row.retry_at,
                doubtful=row.doubtful,
                answer=None if row.answer is None else self._open(key, row.attempt_id, row.version, row.answer),
            )

        return await self._database.read(work)

    async def problems(self, record_ids: Iterable[str]) -> dict[str, Problem]:
        """What is known of the refreshes of some grants that have no answer, by the ids of their records."""
        query = select(refresh_attempts.c.record_id, refresh_attempts.c.problem, refresh_attempts.c.started_at).where(
            refresh_attempts.c.record_id.in_(list(record_ids)), refresh_attempts.c.answer.is_(None)
        )

        async def work(tx: AsyncConnection) -> dict[str, Problem]:
            return {row.record_id: Problem(row.problem, row.started_at) for row in await tx.execute(query)}

        return await self._database.read(work)

    async def begin(self, lease: Lease, key: GrantKey, version: int) -> Attempt:
        """Mark that the refresh token of a record is about to be sent.

        Raises:
            DatabaseError: the mark cannot be made: do not send it.
            LeaseLostError: somebody else may be sending it: do not send it.
        """
        attempt = Attempt(id=new_id("rfa"), version=version, tries=1, started_at=self._clock.wall())

        async def work(tx: AsyncConnection) -> Attempt:
            await self._leases.check(tx, lease)
            here = refresh_attempts.c.record_id == key.record_id
            before = (await tx.execute(select(refresh_attempts).where(here))).one_or_none()
            same = before is not None and before.version == version
            tries = before.tries + 1 if before is not None and same else 1
            doubtful = before is not None and same and (before.doubtful or before.problem in (None, OUTCOME_UNKNOWN))
            values = {
                "attempt_id": attempt.id,
                "version": version,
                "tries": tries,
                "doubtful": doubtful,
                "started_at": attempt.started_at,
                "problem": None,
                "retry_at": None,
                "answer": None,
            }
            if before is None:
                made = insert(refresh_attempts).values(record_id=key.record_id, team_id=key.team, **values)
                await tx.execute(made)
            else:
                await tx.execute(update(refresh_attempts).where(here).values(**values))
            return dataclasses.replace(attempt, tries=tries, doubtful=doubtful)

        return await written(self._database, work)

    async def answered(self, key: GrantKey, attempt: Attempt, answer: RefreshAnswer) -> bool:
        """Write an answer down.

        Returns:
            Whether the mark was still that of this attempt.

        Raises:
            DatabaseError: it is not certain to be written.
        """
        given = answer.given
        kept = _Answer(
            access_token=given.access_token.reveal(),
            refresh_token=None if given.refresh_token is None else given.refresh_token.reveal(),
            expires_in=given.expires_in,
            refresh_expires_in=given.refresh_expires_in,
            scopes=given.scopes,
            asked_at=answer.asked_at,
        )
        sealed = self._envelope.seal(msgspec.json.encode(kept), _context(key, attempt.id, attempt.version))
        return await self._change(key, attempt, answer=sealed)

    async def failed(self, key: GrantKey, attempt: Attempt, *, problem: str, retry_in: float) -> None:
        """Write down that there is no answer.

        Args:
            key: of the grant.
            attempt: the one.
            problem: a code.
            retry_in: seconds in which nobody tries again.
        """
        await self._change(key, attempt, problem=problem, retry_at=self._clock.wall() + retry_in)

    async def settle(self, tx: AsyncConnection, key: GrantKey) -> None:
        """Take the mark away, as part of the transaction after which nobody needs it."""
        await tx.execute(delete(refresh_attempts).where(refresh_attempts.c.record_id == key.record_id))

    async def _change(self, key: GrantKey, attempt: Attempt, **values: object) -> bool:
        async def work(tx: AsyncConnection) -> bool:
            changed = await tx.execute(
                update(refresh_attempts)
                .where(refresh_attempts.c.record_id == key.record_id, refresh_attempts.c.attempt_id == attempt.id)
                .values(**values)
            )
            return bool(changed.rowcount)

        return await self._database.write(work)

    def _open(self, key: GrantKey, attempt_id: str, version: int, sealed: str) -> RefreshAnswer:
        opened = self._envelope.open(sealed, _context(key, attempt_id, version))
        kept = msgspec.json.decode(opened.reveal(), type=_Answer)
        given = GivenTokens(
            access_token=Secret(kept.access_token),
            refresh_token=None if kept.refresh_token is None else Secret(kept.refresh_token),
            expires_in=kept.expires_in,
            refresh_expires_in=kept.refresh_expires_in,
            scopes=kept.scopes,
        )
        return RefreshAnswer(given, kept.asked_at)


def _context(key: GrantKey, attempt_id: str, version: int) -> SealContext:
    return SealContext(
        kind="refresh_answer",
        team=key.team,
        owner=key.user,
        name=f"{key.kind}:{key.provider}",
        id=attempt_id,
        version=version,
    )
