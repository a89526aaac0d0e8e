"""What happened to the sessions, and what API servers tell one another, in a bounded ring: a reader that lost its
connection can go on.

Events are a hint and the session list is the truth: a reader that fell out of the ring, or that knew another relay
process, is told so (`EventsLostError`), reads the list anew and goes on from now. A slow reader therefore costs no
memory: it has a position in the ring, and no queue of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from itertools import islice

import msgspec

from common.clock import Clock
from common.ids import TeamId
from common.sessions.interfaces import Summary
from remote_proxy.errors import EventsLostError

__all__ = ["EventKind", "EventRing", "Notice", "RelayEvent", "SessionEvent"]


class EventKind(StrEnum):
    """What happened."""

    ONLINE = "session.online"
    OFFLINE = "session.offline"
    UPDATED = "session.updated"


class SessionEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `GET /internal/events`."""

    id: str
    """`{instance}-{number}`; the number rises by one with each event."""
    type: EventKind
    time: float
    """Seconds since the Unix epoch."""
    team: TeamId
    session: Summary
    """As it was then."""
    reason: str | None = None
    """Why it went offline: the code given to `Tunnel.close`."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What one API server tells all, for readers who ask for notices. The relay does not look into it."""

    id: str
    """As of a `SessionEvent`: both are numbered together."""
    type: str
    time: float
    """Seconds since the Unix epoch."""
    team: TeamId | None
    subject: str
    data: msgspec.Raw
    """JSON."""


RelayEvent = SessionEvent | Notice


class EventRing:
    """The last `size` events.

    Args:
        instance: names this process; a position of another instance is lost.
        size: events kept.
        clock: source of the events' wall time.
    """

    __slots__ = ("_clock", "_events", "_instance", "_last", "_listeners", "closed")

    def __init__(self, instance: str, *, size: int, clock: Clock) -> None:
        self._instance = instance
        self._events: deque[RelayEvent] = deque(maxlen=size)
        self._clock = clock
        self._last = 0
        self._listeners: set[Callable[[], None]] = set()
        self.closed = False
        """No more events will come; readers end once they have read the rest."""

    @property
    def last(self) -> int:
        """Number of the newest event; 0 before the first."""
        return self._last

    def append(self, kind: EventKind, session: Summary, reason: str | None = None) -> SessionEvent:
        """Add an event, drop the oldest when the ring is full, and wake the listeners."""
        self._last += 1
        event = SessionEvent(
            id=self.id_of(self._last),
            type=kind,
            time=self._clock.wall(),
            team=session.team,
            session=session,
            reason=reason,
        )
        self._events.append(event)
        self._wake()
        return event

    def notify(self, type_: str, team: TeamId | None, subject: str, data: bytes) -> Notice:
        """Add a notice, as `append` adds an event.

        Args:
            type_: what it is about.
            team: that it concerns; None for none.
            subject: that it concerns.
            data: JSON; of a size that the caller has checked.
        """
        self._last += 1
        notice = Notice(
            id=self.id_of(self._last),
            type=type_,
            time=self._clock.wall(),
            team=team,
            subject=subject,
            data=msgspec.Raw(data),
        )
        self._events.append(notice)
        self._wake()
        return notice

    def close(self) -> None:
        """Let the readers end: the relay is going away."""
        self.closed = True
        self._wake()

    def id_of(self, number: int) -> str:
        """The id of the event with that number."""
        return f"{self._instance}-{number}"

    def position(self, event_id: str) -> int:
        """The number behind an id that a reader remembers (`Last-Event-ID`).

        Raises:
            EventsLostError: it is of another process, or is no id at all.
        """
        instance, _, number = event_id.rpartition("-")
        if instance != self._instance or not (number.isascii() and number.isdigit()) or len(number) > 18:
            raise EventsLostError(f"the event id is not one of this relay process ({self._instance})")
        return int(number)

    def after(self, number: int, *, limit: int) -> list[RelayEvent]:
        """At most `limit` events that came after event `number`, oldest first.

        Raises:
            EventsLostError: some of them have left the ring already, or `number` has not happened yet.
        """
        missing = self._last - number
        if missing < 0 or missing > len(self._events):
            raise EventsLostError(f"event {number} is not in the ring")
        start = len(self._events) - missing
        return list(islice(self._events, start, start + limit))

    def _wake(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` (which must not raise) after each event; returns what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)
