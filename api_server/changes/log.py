"""Where the domains say what they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.feed import ChangeFeed
from api_server.changes.generations import GenerationStore
from api_server.changes.interfaces import Change
from api_server.changes.notices import notice_of
from api_server.relay.events import NoticeItem
from common.logging import Logger, get_logger
from common.sessions.errors import SessionStoreError

__all__ = ["AnnouncedChanges", "NoticeBoard"]


class NoticeBoard(Protocol):
    """The relay, by which API servers reach one another."""

    async def post_notices(self, notices: Sequence[NoticeItem]) -> None:
        """Tell all API servers.

        Raises:
            RelayUnavailableError: perhaps not all of them hear it.
        """
        ...


class AnnouncedChanges:
    """Implements `ChangeLog`.

    Args:
        feed: of this process.
        board: of all processes.
        log: says when the others could not be told.
    """

    def __init__(self, feed: ChangeFeed, board: NoticeBoard, *, log: Logger | None = None) -> None:
        self._feed = feed
        self._board = board
        self._log = log if log is not None else get_logger(__name__)
        self._store = GenerationStore()
        self._failing = False

    async def record(self, tx: AsyncConnection, change: Change) -> Change:
        return msgspec.structs.replace(change, generation=await self._store.bump(tx, change.topic))

    async def announce(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        for change in changes:
            self._feed.tell(change)
        try:
            await self._board.post_notices([notice_of(change) for change in changes])
        except SessionStoreError as exc:
            # Once for each break: the others find out by themselves, within a second or a few.
            if not self._failing:
                self._log.warning("other API servers cannot be told of changes", code=exc.code, detail=exc.detail)
            self._failing = True
        else:
            self._failing = False
