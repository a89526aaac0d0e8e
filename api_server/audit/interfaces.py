"""What other domains ask of the audit log."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.records import AuditEntry

__all__ = ["AuditLog"]


class AuditLog(Protocol):
    """Where actions are written down."""

    async def record(self, tx: AsyncConnection, entry: AuditEntry) -> None:
        """Write `entry` as part of a transaction: both are there, or neither.

        Make it the last statement before the commit. It locks the end of the chain, so writers wait for one another
        from here on, and all take their locks in one order.

        Args:
            tx: the transaction of the action, in `Database.write`.
            entry: the action; what is too long for its column is cut, and says so.

        Raises:
            DatabaseError: it cannot be written. Let it pass: the action must not happen without it.
        """
        ...
