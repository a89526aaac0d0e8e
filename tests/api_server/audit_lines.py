"""An audit log for tests of what is written to it."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.records import AuditEntry

__all__ = ["RecordedAudit"]


class RecordedAudit:
    """An audit log that keeps its lines in memory; of what was rolled back as well."""

    def __init__(self) -> None:
        self.lines: list[AuditEntry] = []

    async def record(self, tx: AsyncConnection, entry: AuditEntry) -> None:
        self.lines.append(entry)

    @property
    def actions(self) -> list[str]:
        return [line.action for line in self.lines]
