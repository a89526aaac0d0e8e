"""Which revocations are in force, in the database, because the relay keeps them in memory only.

The database is the truth and is written before the relay is told. Revocations that have expired are dropped on the way,
so there are no more of them than were revoked within the life of one session token.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.devices.interfaces import Revocation
from api_server.devices.tables import revocations

__all__ = ["RevocationLedger"]


class RevocationLedger:
    """The revocations in force. Every call is part of the transaction that it is given."""

    __slots__ = ()

    async def keep(self, tx: AsyncConnection, kept: Sequence[Revocation], now: float) -> None:
        """Keep revocations.

        Args:
            tx: the transaction.
            kept: of one said twice, the later expiry holds.
            now: seconds since the Unix epoch; what has expired by then is dropped.
        """
        await tx.execute(delete(revocations).where(revocations.c.expires_at <= now))
        for each in kept:
            there = (
                (revocations.c.kind == each.kind) & (revocations.c.team_id == each.team) & (revocations.c.id == each.id)
            )
            before = (await tx.execute(select(revocations.c.expires_at).where(there).with_for_update())).scalar()
            if before is None:
                await tx.execute(
                    insert(revocations).values(
                        kind=each.kind, id=each.id, team_id=each.team, at=now, expires_at=each.expires_at
                    )
                )
            elif before < each.expires_at:
                await tx.execute(update(revocations).where(there).values(expires_at=each.expires_at))

    async def in_force(self, tx: AsyncConnection, now: float) -> list[Revocation]:
        """The revocations that have not expired at `now` (seconds since the Unix epoch), the oldest first."""
        query = (
            select(revocations)
            .where(revocations.c.expires_at > now)
            .order_by(revocations.c.at, revocations.c.kind, revocations.c.team_id, revocations.c.id)
        )
        return [
            Revocation(id=row.id, kind=row.kind, team=row.team_id, expires_at=row.expires_at)
            for row in await tx.execute(query)
        ]
