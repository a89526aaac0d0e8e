"""What `POST /internal/notices` takes: what one API server wants all of them to hear.

The relay is a bus here. It looks at sizes and at what could break a line of the feed, and at nothing else; what a
notice means is between the API servers. A notice is a hint that is kept for as long as the ring holds it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from common.ids import TeamId, is_name
from remote_proxy.errors import BadRequestError
from remote_proxy.events import EventRing

__all__ = ["MAX_DATA", "MAX_ITEMS", "NoticeItem", "NoticeList", "post"]

MAX_ITEMS: Final = 100
"""Of one list; so nobody empties the ring of everything else with one request."""
MAX_DATA: Final = 4096
"""Bytes of the JSON of one notice. With the ring's size it bounds what notices can hold of the relay's memory."""

_TYPE: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}", re.ASCII)


class NoticeItem(msgspec.Struct, frozen=True, kw_only=True):
    """One notice."""

    type: Annotated[str, Meta(max_length=64)]
    team: Annotated[str, Meta(max_length=64)] | None = None
    subject: Annotated[str, Meta(max_length=128)] = ""
    data: dict[str, Any] = {}


class NoticeList(msgspec.Struct, frozen=True, kw_only=True):
    """The body."""

    items: Annotated[list[NoticeItem], Meta(max_length=MAX_ITEMS)]


def post(ring: EventRing, items: list[NoticeItem]) -> int:
    """Put notices into the ring, all or none; returns how many.

    Raises:
        BadRequestError: one is not as it should be.
    """
    checked = [(item, _data(item)) for item in items]
    for item, data in checked:
        ring.notify(item.type, None if item.team is None else TeamId(item.team), item.subject, data)
    return len(checked)


def _data(item: NoticeItem) -> bytes:
    """The JSON of a notice's data, once the rest of it is checked."""
    if _TYPE.fullmatch(item.type) is None:
        raise BadRequestError("the type of a notice is lower-case letters, digits, dots and underscores")
    if item.team is not None and not is_name(item.team):
        raise BadRequestError("the team is not a name")
    if not item.subject.isprintable():
        raise BadRequestError("the subject of a notice has characters that cannot be shown")
    try:
        data = msgspec.json.encode(item.data)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:  # msgpack can say more than JSON
        raise BadRequestError("the data of a notice is not what JSON can express") from exc
    if len(data) > MAX_DATA:
        raise BadRequestError(f"the data of a notice is larger than {MAX_DATA} bytes")
    return data
