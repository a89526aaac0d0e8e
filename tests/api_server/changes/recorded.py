"""A change log that keeps in memory what was announced. The numbers in the database are counted as ever."""

from __future__ import annotations

from collections.abc import Sequence

from api_server.changes.feed import ChangeFeed
from api_server.changes.interfaces import Change
from api_server.changes.log import AnnouncedChanges
from api_server.relay.events import NoticeItem

__all__ = ["AlwaysFresh", "RecordedBoard", "RecordedChanges"]


class RecordedBoard:
    """Implements `NoticeBoard`: nobody reads what is posted."""

    def __init__(self) -> None:
        self.posted: list[NoticeItem] = []

    async def post_notices(self, notices: Sequence[NoticeItem]) -> None:
        self.posted.extend(notices)


class RecordedChanges(AnnouncedChanges):
    """Implements `ChangeLog`.

    Args:
        feed: of this process.
    """

    def __init__(self, feed: ChangeFeed) -> None:
        self.board = RecordedBoard()
        super().__init__(feed, self.board)
        self.feed = feed
        self.announced: list[Change] = []

    async def announce(self, changes: Sequence[Change]) -> None:
        self.announced.extend(changes)
        await super().announce(changes)


class AlwaysFresh:
    """Implements `Freshness`: nothing is missed, unless a test says so."""

    def __init__(self) -> None:
        self.missing = False

    def fresh(self) -> bool:
        return not self.missing
