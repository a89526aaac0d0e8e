"""What goes with a team: the connections that its members had made in it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.interfaces import Change
from api_server.custody.database import DatabaseRecordStore
from api_server.provider_tokens.tables import refresh_attempts
from common.ids import TeamId

__all__ = ["EndedConnections"]


class EndedConnections:
    """A `TeamEnder`. Nothing is revoked at a provider: that would be requests within a transaction.

    Args:
        records: where grants are kept.
    """

    def __init__(self, records: DatabaseRecordStore) -> None:
        self._records = records

    async def end_team(self, tx: AsyncConnection, team: TeamId, now: float) -> Sequence[Change]:
        del now
        await self._records.drop_team(tx, team)
        await tx.execute(delete(refresh_attempts).where(refresh_attempts.c.team_id == team))
        return ()
