"""What webhooks are, and what is sent by them. Times are seconds since the Unix epoch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from common.ids import TeamId

__all__ = ["Delivery", "DeliveryState", "Event", "Webhook", "is_pattern", "matches"]

_PATTERN: Final = re.compile(r"\*|[a-z][a-z_]{0,39}\.(?:\*|[a-z][a-z_]{0,39})", re.ASCII)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened."""

    id: str
    """`evt_...`: the same in every delivery of it, as `webhook-id`."""
    team: TeamId
    type: str
    """`session.online`."""
    time: float
    data: Mapping[str, Any]
    """What JSON can express. No secrets."""


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Where events are sent."""

    id: str
    team: TeamId
    name: str
    url: str
    """Its path and query are shown only to who may change it: they can be a secret."""
    events: Sequence[str]
    """Which ones: `session.online`, `session.*`, `*`."""
    created_at: float
    created_by: str
    """`user:` or `token:` and the id."""
    disabled_at: float | None
    disabled_reason: str | None
    """`by_hand`, `gone` (it answered 410), or `failing` (for too long)."""
    failing_since: float | None
    """When the first of the deliveries failed that have failed without one that arrived between them."""
    old_secret_until: float | None
    """Until when messages are signed with the secret before this one, too."""

    @property
    def creator(self) -> tuple[str, str]:
        """Kind and id of who created it."""
        kind, _, identifier = self.created_by.partition(":")
        return kind, identifier


class DeliveryState(StrEnum):
    """How far a delivery is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up; it can be sent again."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one webhook."""

    id: str
    webhook: str
    event: str
    type: str
    state: DeliveryState
    attempts: int
    next_at: float | None
    """When it is tried next."""
    last_status: int | None
    """That the receiver answered with the last time; null for no answer."""
    last_error: str | None
    """Code of what went wrong the last time."""
    created_at: float
    delivered_at: float | None


def is_pattern(text: str) -> bool:
    """Whether `text` says which events: `*`, `session.*` or `session.online`."""
    return _PATTERN.fullmatch(text) is not None


def matches(patterns: Sequence[str], kind: str) -> bool:
    """Whether events of a kind are wanted."""
    return any(each in ("*", kind, f"{kind.partition('.')[0]}.*") for each in patterns)
