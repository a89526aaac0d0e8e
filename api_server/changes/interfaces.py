"""What the domains ask of the changes, and what they implement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from common.ids import TeamId

__all__ = ["Change", "ChangeListener", "ChangeLog", "Freshness", "Topic"]


class Topic(StrEnum):
    """What changes are about. Each domain that keeps a cache has its own."""

    PEOPLE = "people"
    """What users may do: members and their roles, and users who are locked out. The subject is the user."""
    TOKENS = "tokens"
    ROUTES = "routes"
    LABELS = "labels"
    """Which devices have a label; the subject is the label."""
    REALMS = "realms"
    LIMITS = "limits"
    WEBHOOKS = "webhooks"
    PROVIDER_TOKENS = "provider_tokens"
    """Nobody keeps a cache of them: it is for the events."""
    EVENTS = "events"
    """What is only shown: nobody caches anything of it."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was changed."""

    topic: Topic
    team: TeamId | None
    subject: str
    """Id of what changed; empty for more than one: look at all."""
    event: str | None = None
    """`token.revoked`: also shown at `/api/events` to those who follow the team."""
    data: Mapping[str, Any] = {}
    """Of that event: what JSON can express, a few hundred bytes. No secrets."""
    generation: int | None = None
    """The topic's number after this change, as `ChangeLog.record` gave it. Without it listeners hear of the change all
    the same, and distrust the whole topic at the next poll."""


class ChangeLog(Protocol):
    """Where changes are said."""

    async def record(self, tx: AsyncConnection, change: Change) -> Change:
        """Count a change, as part of the transaction that makes it. Call it after the change and before the audit log.

        It holds the topic's number until the transaction ends: changes of a topic are numbered as they are committed.

        Returns:
            The change with its number: that one is to be announced.
        """
        ...

    async def announce(self, changes: Sequence[Change]) -> None:
        """Tell everybody, after the commit. Best effort, and never raises: who was not told finds out by the number.

        The listeners of this process have been told when it returns.
        """
        ...


class ChangeListener(Protocol):
    """What keeps a cache of a topic. No method may block or raise.

    A value that was asked for before a change and arrives after it must not be kept: take a counter of one's own
    before the question, raise it in both methods, and discard the answer if it has moved.
    """

    topic: Topic

    def changed(self, change: Change) -> None:
        """Drop what is known of `change.subject`, which is not empty."""
        ...

    def all_changed(self) -> None:
        """Something of the topic has changed, or may have: distrust all of it."""
        ...


class Freshness(Protocol):
    """Whether caches may be trusted."""

    def fresh(self) -> bool:
        """Whether everything that was changed more than a few seconds ago is known here."""
        ...
