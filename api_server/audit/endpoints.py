"""`/api/audit`: read the audit log. Nothing can be changed by it, or by any other endpoint."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api_server.audit.store import AuditReader, Filter, Recorded
from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.routes import Caller, ListQuery, Route
from common.sessions.errors import InvalidCursorError

__all__ = ["AuditEndpoints", "AuditPage", "AuditQuery"]

_Wanted = Annotated[str, Meta(min_length=1, max_length=255)]

_MAX_DIGITS = 18
"""Of a cursor: it is compared with a BIGINT."""


class AuditQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries."""

    action: Annotated[_Wanted | None, Meta(description="Only this action, such as member.removed.")] = None
    actor: Annotated[_Wanted | None, Meta(description="Only what was done by who has this id.")] = None
    target: Annotated[_Wanted | None, Meta(description="Only what was done to what has this id.")] = None


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries, newest first."""

    items: list[Recorded]
    next: str | None


class AuditEndpoints:
    """Serves `/api/audit`.

    Args:
        reader: of the log.
    """

    def __init__(self, reader: AuditReader) -> None:
        self._reader = reader

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(
                method="GET",
                path="/api/audit",
                handler=self.list_audit,
                action=Action.AUDIT_READ,
                every_team=True,
                errors=(InvalidCursorError, DatabaseUnavailableError),
            )
        ]

    async def list_audit(self, caller: Caller, query: AuditQuery) -> AuditPage:
        """Read the audit log, newest entries first.

        Of one team, or without `team` of every team whose log you may read. What concerns no team (sign-ins, users) is
        shown without `team` to those who may read it: ADMINs of the installation's first team, and the administration
        token. `next` is the cursor of the next page, or null.
        """
        wanted = Filter(
            teams=caller.teams,
            without_team=query.team is None and caller.identity.may(Action.AUDIT_READ_INSTALLATION, None),
            action=query.action,
            actor=query.actor,
            target=query.target,
        )
        items = await self._reader.page(wanted, limit=query.limit + 1, before=_number(query.cursor))
        more = len(items) > query.limit
        items = items[: query.limit]
        return AuditPage(items=items, next=str(items[-1].seq) if more else None)


def _number(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _MAX_DIGITS):
        raise InvalidCursorError("cursor must be the `next` of an earlier page")
    return int(cursor)
