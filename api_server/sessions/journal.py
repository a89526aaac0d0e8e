"""What is written down about closing sessions, which are the relay's and in no database.

The entry is written first: what cannot be written down is not done. If the session could not be closed after all, a
second entry says so.
"""

from __future__ import annotations

from typing import Protocol

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import DONE, REFUSED, entry_of
from api_server.db.database import Database
from api_server.http.routes import Caller
from common.sessions.interfaces import Summary

__all__ = ["DatabaseSessionJournal", "SessionJournal"]


class SessionJournal(Protocol):
    """Writes it down."""

    async def closing(self, caller: Caller, session: Summary) -> None:
        """A session is about to be closed.

        Raises:
            DatabaseError: it cannot be written down; do not close it.
        """
        ...

    async def not_closed(self, caller: Caller, session: Summary) -> None:
        """It was not closed.

        Raises:
            DatabaseError: it cannot be written down.
        """
        ...


class DatabaseSessionJournal:
    """Implements `SessionJournal`.

    Args:
        database: of the audit log.
        audit: gets the entries.
    """

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    async def closing(self, caller: Caller, session: Summary) -> None:
        await self._write(caller, session, DONE)

    async def not_closed(self, caller: Caller, session: Summary) -> None:
        await self._write(caller, session, REFUSED)

    async def _write(self, caller: Caller, session: Summary, outcome: str) -> None:
        before = {"device": session.device, "device_name": session.device_name, "epoch": session.epoch}
        target = ("device_session", session.id)
        entry = entry_of(caller, caller.team, "device_session.closed", target, before=before, outcome=outcome)
        await self._database.write(lambda tx: self._audit.record(tx, entry))
