"""Keeps the limits that hold in this process as the database has them.

Any change of the topic has all of them read again: they are few, and a change may be of the defaults. Changes that come
close together are read once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from api_server.changes.interfaces import Change, Topic
from api_server.db.errors import DatabaseError
from api_server.limits.limiter import Limiter, key_of
from api_server.limits.records import Stored, SubjectKind
from api_server.limits.service import defaults_of
from common.logging import Logger, get_logger

__all__ = ["LimitSource", "LimitWatch"]

_AGAIN: Final = 1.0
"""Seconds until a read that failed is tried again."""

_TOGETHER: Final = 0.02
"""Seconds in which changes are gathered."""


class LimitSource(Protocol):
    """Where limits are read."""

    async def every(self) -> Sequence[Stored]:
        """All that is set.

        Raises:
            DatabaseError: it cannot be read.
        """
        ...


class LimitWatch:
    """Implements `ChangeListener`.

    Args:
        source: of the limits.
        limiter: that they hold in.
        sleep: waits for so many seconds.
        log: says when they cannot be read.
    """

    def __init__(
        self,
        source: LimitSource,
        limiter: Limiter,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self.topic = Topic.LIMITS
        self._source = source
        self._limiter = limiter
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)
        self._changed = asyncio.Event()

    def changed(self, change: Change) -> None:  # noqa: ARG002
        """Read them again."""
        self._changed.set()

    def all_changed(self) -> None:
        """Read them again."""
        self._changed.set()

    async def load(self) -> None:
        """Read them once, as at the start.

        Raises:
            DatabaseError: they cannot be read.
        """
        stored = await self._source.every()
        own = {(each.kind, _key(each)): each.limits for each in stored if each.team is not None}
        self._limiter.apply(defaults_of(stored), own)

    async def run(self) -> None:
        """Follow the changes, until cancelled."""
        failing = False
        while True:
            await self._changed.wait()
            await self._sleep(_TOGETHER)
            self._changed.clear()  # before the read: what is said from now on has it done again
            try:
                await self.load()
                failing = False
            except DatabaseError as exc:
                if not failing:
                    self._log.warning("the limits cannot be read anew", code=exc.code, detail=exc.detail)
                failing = True
                self._changed.set()
                await self._sleep(_AGAIN)


def _key(stored: Stored) -> str:
    return stored.subject if stored.kind is SubjectKind.TEAM else key_of(stored.team, stored.subject)
