"""Which revocations are in force, kept in the database, because the relay keeps them in memory only.

The table is the truth and is written before the relay is told; all API servers share it. Revocations that have expired
are dropped on the way, so it is no longer than what was revoked within the life of one session token.
"""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.db.database import Database
from api_server.db.errors import DatabaseConflictError
from api_server.devices.interfaces import Revocation
from api_server.devices.tables import revocations

__all__ = ["RevocationLedger"]


class RevocationLedger:
    """The revocations in force.

    Args:
        database: that they are kept in.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, revocation: Revocation, now: float) -> None:
        """Keep a revocation, in a transaction of its own.

        Args:
            revocation: said twice, the later expiry holds.
            now: seconds since the Unix epoch; what has expired by then is dropped.

        Raises:
            DatabaseError: it cannot be kept.
        """
        try:
            await self._database.write(lambda tx: self.keep(tx, revocation, now))
        except DatabaseConflictError:
            # Somebody else said the same just now; this time it is there.
            await self._database.write(lambda tx: self.keep(tx, revocation, now))

    async def keep(self, tx: AsyncConnection, revocation: Revocation, now: float) -> None:
        """Keep a revocation as part of a transaction; as `add` otherwise."""
        await tx.execute(delete(revocations).where(revocations.c.expires_at <= now))
        this = (
            (revocations.c.kind == revocation.kind)
            & (revocations.c.team_id == revocation.team)
            & (revocations.c.id == revocation.id)
        )
        found = (await tx.execute(select(revocations.c.expires_at).where(this).with_for_update())).one_or_none()
        if found is None:
            await tx.execute(
                insert(revocations).values(
                    kind=revocation.kind,
                    team_id=revocation.team,
                    id=revocation.id,
                    at=now,
                    expires_at=revocation.expires_at,
                )
            )
        elif found.expires_at < revocation.expires_at:
            await tx.execute(update(revocations).where(this).values(expires_at=revocation.expires_at))

    async def in_force(self, now: float) -> list[Revocation]:
        """The revocations that have not expired at `now` (seconds since the Unix epoch), oldest first.

        Raises:
            DatabaseError: they cannot be read.
        """
        query = (
            select(revocations)
            .where(revocations.c.expires_at > now)
            .order_by(revocations.c.at, revocations.c.kind, revocations.c.team_id, revocations.c.id)
        )
        rows = await self._database.read(lambda tx: tx.execute(query))
        return [Revocation(id=row.id, kind=row.kind, team=row.team_id, expires_at=row.expires_at) for row in rows.all()]
