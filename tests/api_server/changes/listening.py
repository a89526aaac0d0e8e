"""A cache of a topic that only remembers what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from api_server.changes.interfaces import Change, Topic

__all__ = ["ALL", "Listening"]

ALL = "*"
"""What stands for `all_changed` among the subjects."""


class Listening:
    """Implements `ChangeListener`."""

    def __init__(self, topic: Topic = Topic.TOKENS) -> None:
        self.topic = topic
        self.heard: list[str] = []
        self._news = asyncio.Event()

    def changed(self, change: Change) -> None:
        self.heard.append(change.subject)
        self._news.set()

    def all_changed(self) -> None:
        self.heard.append(ALL)
        self._news.set()

    async def until(self, holds: Callable[[list[str]], bool]) -> None:
        """Wait until what was heard is as it should be."""
        async with asyncio.timeout(30):
            while not holds(self.heard):
                self._news.clear()
                await self._news.wait()
