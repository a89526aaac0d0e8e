"""The numbers of the topics in the database, and what is known of them in a process.

A topic's number grows by one with each change, in the transaction of the change; its row is held until the commit, so
that changes become visible in the order of their numbers. A process that has heard of every number up to the one in the
database has missed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.tables import generations

__all__ = ["GenerationBook", "GenerationStore"]

_MAX_AHEAD: Final = 1000
"""Numbers of a topic that may be heard before the ones between; more of them are not worth remembering."""


class GenerationStore:
    """SQL for the numbers. Every call is part of the transaction that it is given."""

    __slots__ = ()

    async def bump(self, tx: AsyncConnection, topic: str) -> int:
        """Count a change of `topic`; returns its number, the first one is 1."""
        there = generations.c.topic == topic
        next_one = {"value": generations.c.value + 1}
        if not (await tx.execute(update(generations).where(there).values(next_one))).rowcount:
            await self._begin(tx, topic, next_one)
        return int((await tx.execute(select(generations.c.value).where(there))).scalar_one())

    async def read(self, tx: AsyncConnection) -> dict[str, int]:
        """The number of each topic that ever changed."""
        rows = await tx.execute(select(generations.c.topic, generations.c.value))
        return {row.topic: row.value for row in rows}

    async def _begin(self, tx: AsyncConnection, topic: str, next_one: Mapping[str, object]) -> None:
        """Make the row of a topic, unless somebody else does at this moment."""
        first = {"topic": topic, "value": 1}
        match tx.dialect.name:
            case "mysql":
                await tx.execute(mysql.insert(generations).values(first).on_duplicate_key_update(**next_one))
            case "postgresql":
                made = postgresql.insert(generations).values(first)
                await tx.execute(made.on_conflict_do_update(index_elements=["topic"], set_=next_one))
            case _:
                await tx.execute(
                    sqlite.insert(generations)
                    .values(first)
                    .on_conflict_do_update(index_elements=["topic"], set_=next_one)
                )


class GenerationBook:
    """Which numbers this process has heard of.

    known     every change up to this number was heard of, or everything was distrusted since
    ahead     heard of beyond that: there is a gap below, which a look at the database closes
    """

    __slots__ = ("_ahead", "_known", "_polled")

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._ahead: dict[str, set[int]] = {}
        self._polled = False

    def known(self) -> dict[str, int]:
        """A copy of how far each topic is known; take it before the database is asked."""
        return dict(self._known)

    def new(self, topic: str, generation: int | None) -> bool:
        """Whether this number was not heard of before. Without a number one cannot tell."""
        if generation is None:
            return True
        return generation > self._known.get(topic, 0) and generation not in self._ahead.get(topic, ())

    def heard(self, topic: str, generation: int | None) -> bool:
        """Note that a change was heard of; returns whether others before it were not."""
        if generation is None or not self._polled:
            return False  # the next look at the database tells
        known = self._known.setdefault(topic, 0)
        ahead = self._ahead.setdefault(topic, set())
        if generation > known:
            ahead.add(generation)
        self._close_up(topic)
        if len(ahead) > _MAX_AHEAD:
            ahead.clear()
            return True
        return bool(ahead)

    def polled(self, values: Mapping[str, int], *, known_before: Mapping[str, int]) -> frozenset[str]:
        """Take what the database says.

        Args:
            values: the number of each topic.
            known_before: what `known` was before the question; meanwhile more may have been heard than was there then.

        Returns:
            Topics of which something was missed.
        """
        missed = set()
        unknown = 0 if self._polled else None
        self._polled = True
        for topic, value in values.items():
            known = self._known.get(topic, unknown)
            # Less than was known before: another database than it was, such as one from a backup.
            if known is None or value > known or value < known_before.get(topic, 0):
                missed.add(topic)
                self._known[topic] = value
                self._close_up(topic)
        return frozenset(missed)

    def _close_up(self, topic: str) -> None:
        """Count as known what follows on what is known."""
        known, ahead = self._known[topic], self._ahead.get(topic)
        if not ahead:
            return
        while known + 1 in ahead:
            known += 1
        self._known[topic] = known
        ahead.difference_update([each for each in ahead if each <= known])
