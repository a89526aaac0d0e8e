"""`/api/sessions`: list, show and close the live sessions of a team.

The sessions are the relay's; nothing is kept here. A session of another team does not exist, and an id that cannot be
one is answered so without asking the relay.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.devices.interfaces import DeviceCreators
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery
from api_server.sessions.journal import SessionJournal
from common.ids import SessionId, is_session_id
from common.sessions.errors import (
    DrainingError,
    InvalidCursorError,
    RelayUnavailableError,
    SessionNotFoundError,
    SessionReplacedError,
    SessionStoreError,
)
from common.sessions.interfaces import Page, Store, Summary

__all__ = ["CloseQuery", "SessionEndpoints", "SessionPath"]


class SessionPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a session."""

    id: Annotated[str, Meta(description="Id of the session: `ses_` and 32 hexadecimal digits.")]


class CloseQuery(TeamQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which session to close."""

    epoch: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Close it only if it still has this epoch, so that a newer session is not closed by mistake."),
    ] = None


class SessionEndpoints:
    """Serves `/api/sessions`.

    Args:
        store: who is connected.
        devices: tells whose a device is.
        journal: what is closed is written there.
    """

    def __init__(self, store: Store, devices: DeviceCreators, journal: SessionJournal) -> None:
        self._store = store
        self._devices = devices
        self._journal = journal

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(
                method="GET",
                path="/api/sessions",
                handler=self.list_sessions,
                action=Action.SESSIONS_READ,
                errors=(InvalidCursorError, RelayUnavailableError),
            ),
            Route(
                method="GET",
                path="/api/sessions/{id}",
                handler=self.show_session,
                action=Action.SESSIONS_READ,
                errors=(SessionNotFoundError, RelayUnavailableError),
            ),
            Route(
                method="DELETE",
                path="/api/sessions/{id}",
                handler=self.close_session,
                action=Action.SESSIONS_CLOSE_OWN,
                status=204,
                errors=(
                    ForbiddenError,
                    SessionNotFoundError,
                    SessionReplacedError,
                    DrainingError,
                    RelayUnavailableError,
                    DatabaseUnavailableError,
                ),
            ),
        ]

    async def list_sessions(self, caller: Caller, query: ListQuery) -> Page:
        """List the live sessions of a team.

        In the order of their ids; `next` is the cursor of the next page, or null. Sessions that come and go while you
        page through may be missing, but none that stays is listed twice or left out.
        """
        return await self._store.list(caller.team, limit=query.limit, cursor=query.cursor)

    async def show_session(self, caller: Caller, path: SessionPath, query: TeamQuery) -> Summary:  # noqa: ARG002
        """Show one live session."""
        handle = await self._store.lookup(caller.team, _session_id(path))
        return await handle.summary()

    async def close_session(self, caller: Caller, path: SessionPath, query: CloseQuery) -> None:
        """Close a live session.

        Its streams are reset and its WebSocket is closed, within the call. The device may dial in again at once; to
        keep it out, disable it or revoke its session token.
        """
        session = await (await self._store.lookup(caller.team, _session_id(path))).summary()
        if not caller.identity.may(Action.SESSIONS_CLOSE, caller.team):
            await self._check_own(caller, session)
        await self._journal.closing(caller, session)
        try:
            closed = await self._store.unregister(caller.team, session.id, query.epoch)
        except SessionStoreError:
            await self._journal.not_closed(caller, session)
            raise
        if not closed:
            await self._journal.not_closed(caller, session)
            raise SessionNotFoundError(_NOT_FOUND)

    async def _check_own(self, caller: Caller, session: Summary) -> None:
        """Whether the session is of a device that the caller has created.

        Raises:
            ForbiddenError: it is somebody else's.
        """
        creator = await self._devices.creator_of(caller.team, session.device)
        if creator != (caller.identity.kind, caller.identity.id):
            raise ForbiddenError(f"{caller.identity.name!r} may close sessions of own devices only")


_NOT_FOUND = "the team has no live session of that id"


def _session_id(path: SessionPath) -> SessionId:
    if not is_session_id(path.id):
        raise SessionNotFoundError(_NOT_FOUND)
    return SessionId(path.id)
