"""What is written down and told of a grant that has died."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import SYSTEM, AuditEntry
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.provider_tokens.grants.records import GrantKey

__all__ = ["Obituaries", "change_of"]


class Obituaries:
    """A `Mourner`.

    Args:
        audit: gets a line.
        changes: tells everybody.
    """

    def __init__(self, audit: AuditLog, changes: ChangeLog) -> None:
        self._audit = audit
        self._changes = changes

    async def record(self, tx: AsyncConnection, key: GrantKey, reason: str) -> Change:
        change = await self._changes.record(tx, change_of(key, "provider_token.needs_reconnect", reason=reason))
        entry = AuditEntry(
            actor=SYSTEM,
            team=key.team or None,
            action="provider_token.needs_reconnect",
            target_kind=key.kind.value,
            target_id=key.record_id,
            before={"state": "active"},
            after={"state": "needs_reconnect", "reason": reason},
        )
        await self._audit.record(tx, entry)
        return change

    async def announce(self, change: Change) -> None:
        await self._changes.announce([change])


def change_of(key: GrantKey, event: str, **data: str) -> Change:
    """What happened to a grant, for those who follow the team."""
    return Change(
        topic=Topic.PROVIDER_TOKENS,
        team=key.team or None,
        subject=key.record_id,
        event=event,
        data={"provider": key.provider, "user": key.user, **data},
    )
