"""The relay's event stream: its events, and the cutting of its text into them. Sans-I/O."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from common.ids import TeamId
from common.sessions.errors import RelayUnavailableError
from common.sessions.interfaces import Summary

__all__ = ["EventCutter", "EventKind", "EventPosition", "Notice", "NoticeItem", "SessionEvent"]

_MAX_EVENT: Final = 256 * 1024
"""Characters of one event; a summary has about one thousand."""


class EventKind(StrEnum):
    """What happened to a session."""

    ONLINE = "session.online"
    OFFLINE = "session.offline"
    UPDATED = "session.updated"


class SessionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the relay."""

    id: str
    """Opaque; the position behind it."""
    type: str
    """An `EventKind`, or one that only a newer relay knows."""
    time: float
    """Seconds since the Unix epoch."""
    team: TeamId
    session: Summary
    """As it was then."""
    reason: str | None = None
    """Why it went offline."""


class NoticeItem(msgspec.Struct, frozen=True, kw_only=True):
    """What one API server tells all of them, by the relay."""

    type: str
    """What it is about: lower-case letters, digits, dots and underscores."""
    team: TeamId | None
    subject: str
    data: Mapping[str, Any]
    """What JSON can express, in 4,096 bytes at most. No secrets."""


class Notice(NoticeItem, frozen=True, kw_only=True):
    """A notice as the relay hands it on."""

    id: str
    """As of a `SessionEvent`."""
    time: float
    """When the relay got it; seconds since the Unix epoch."""


class EventPosition:
    """How far a reader has come."""

    __slots__ = ("last_id",)

    def __init__(self) -> None:
        self.last_id: str | None = None
        """Id of the last event that was seen, or that the relay named as the place to go on from."""


class EventCutter:
    """Cuts the text of an event stream into events (HTML Living Standard, section 9.2.6); each carries JSON.

    Args:
        position: moved forward with each event.
    """

    __slots__ = ("_data", "_id", "_kind", "_position", "_rest", "_size")

    def __init__(self, position: EventPosition) -> None:
        self._position = position
        self._rest = ""
        self._size = 0
        self._kind = ""
        self._data = ""
        self._id: str | None = None

    def feed(self, text: str) -> list[SessionEvent | Notice | None]:
        """The events and notices that `text` completes; None for one that says that others were lost.

        Raises:
            RelayUnavailableError: this is no event stream of a relay.
        """
        events: list[SessionEvent | Notice | None] = []
        *lines, self._rest = (self._rest + text).split("\n")
        for raw in lines:
            line = raw.removesuffix("\r")
            if line:
                self._field(line)
            else:
                self._dispatch(events)
        if len(self._rest) + self._size > _MAX_EVENT:
            raise RelayUnavailableError("an event of the relay has no end")
        return events

    def _field(self, line: str) -> None:
        self._size += len(line)
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data = f"{self._data}\n{value}" if self._data else value
            case "event":
                self._kind = value
            case "id":
                self._id = value
            case _:
                pass  # a comment, or a field that this version does not know

    def _dispatch(self, events: list[SessionEvent | Notice | None]) -> None:
        if self._kind == "reset":
            events.append(None)
        elif self._data:
            try:
                events.append(
                    msgspec.json.decode(self._data, type=Notice)
                    if self._kind == "notice"
                    else msgspec.json.decode(self._data, type=SessionEvent)
                )
            except msgspec.MsgspecError as exc:
                raise RelayUnavailableError("the relay sent an event that cannot be read") from exc
        if self._id is not None:
            self._position.last_id = self._id
        self._kind, self._data, self._id, self._size = "", "", None, 0
