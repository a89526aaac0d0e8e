"""Changes as the relay's bus carries them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from api_server.changes.interfaces import Change, Topic
from api_server.relay.events import Notice, NoticeItem

__all__ = ["change_of", "notice_of"]

_PREFIX: Final = "changed."
"""Of the type of a notice that tells of a change; the topic follows."""

_MAX_DATA: Final = 3072
"""Bytes of an event's data; what is larger stays out, since the relay takes 4,096 with all that is around it."""


class _Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The data of such a notice."""

    generation: int | None = None
    event: str | None = None
    data: dict[str, Any] = {}


def notice_of(change: Change) -> NoticeItem:
    """A change as a notice."""
    data = dict(change.data)
    if len(msgspec.json.encode(data)) > _MAX_DATA:
        data = {}
    body = _Body(generation=change.generation, event=change.event, data=data)
    return NoticeItem(
        type=_PREFIX + change.topic, team=change.team, subject=change.subject, data=msgspec.to_builtins(body)
    )


def change_of(notice: Notice) -> Change | None:
    """The change that a notice tells of; None when it tells of none, or of one that only a newer version knows."""
    topic = notice.type.removeprefix(_PREFIX)
    if topic == notice.type or topic not in _TOPICS:
        return None
    try:
        body = msgspec.convert(notice.data, _Body)
    except msgspec.ValidationError:
        return None
    return Change(
        topic=Topic(topic),
        team=notice.team,
        subject=notice.subject,
        event=body.event,
        data=body.data,
        generation=body.generation,
    )


_TOPICS: Final = frozenset(Topic)
