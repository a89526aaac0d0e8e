"""Hands the relay's events on to everyone who follows them.

    relay ── one stream ──> EventHub: the last events, each encoded once
                               ├── Follower: the teams it may see, and what waits to be sent to it
                               └── Follower ...

What waits for a follower are references to the same encoded events, at most `max_waiting` of them; one that is slower
than that is cut off, and may come back with the id of the last event it saw (`Last-Event-ID`). When that id is not
among the last events any more, or when events were lost on the way from the relay, it is sent `reset`: what it knows
may be wrong, and the list of sessions is to be read anew. Events are a hint; the list is the truth.

One event loop; nothing here waits but `Follower.wait`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from api_server.changes.notices import change_of
from api_server.events.errors import TooManyFollowersError
from api_server.events.metrics import EventMetrics
from api_server.relay.events import Notice, SessionEvent
from common.ids import TeamId

__all__ = ["EventHub", "Follower", "TeamEvent"]

_RESET = b"id:\nevent: reset\ndata: {}\n\n"
"""An empty id makes the client forget its last one (HTML Standard section 9.2.6)."""


class TeamEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something other than a session that changed in a team, as it is shown."""

    id: str
    type: str
    time: float
    team: TeamId
    subject: str
    """Id of what changed."""
    data: Mapping[str, Any]


class _Kept(NamedTuple):
    id: str
    team: TeamId
    frame: bytes


class EventHub:
    """Implements `EventListener` and `NoticeListener` of `api_server.relay.feed`.

    Args:
        metrics: what is counted.
        max_followers: at once.
        kept: how many of the last events are kept for those who come back.
        max_waiting: events that may wait for one follower.
    """

    def __init__(
        self, *, metrics: EventMetrics, max_followers: int = 1000, kept: int = 1024, max_waiting: int = 2048
    ) -> None:
        if kept >= max_waiting:
            raise ValueError("who comes back may be sent all that is kept, so more must be allowed to wait")
        self._metrics = metrics
        self._max_followers = max_followers
        self._max_waiting = max_waiting
        self._kept: deque[_Kept] = deque(maxlen=kept)
        self._followers: set[Follower] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<EventHub: {len(self._kept)} events kept, {len(self._followers)} followers>"

    def session_changed(self, event: SessionEvent) -> None:
        """Hand an event on to those who may see it."""
        self._hand_on(event)

    def notice_heard(self, notice: Notice) -> None:
        """Hand a change on that is meant to be seen."""
        change = change_of(notice)
        if change is None or change.event is None or change.team is None:
            return
        self._hand_on(
            TeamEvent(
                id=notice.id,
                type=change.event,
                time=notice.time,
                team=change.team,
                subject=change.subject,
                data=change.data,
            )
        )

    def bus_heard(self) -> None:
        """Of no concern here."""

    def bus_lost(self) -> None:
        """Of no concern here: `events_lost` is."""

    def _hand_on(self, event: SessionEvent | TeamEvent) -> None:
        self._metrics.events.inc()
        # The relay's word is taken for the content; but a line break here would forge another event.
        if not (event.id.isprintable() and event.type.isprintable()):
            return
        frame = b"id: %b\nevent: %b\ndata: %b\n\n" % (
            event.id.encode(),
            event.type.encode(),
            msgspec.json.encode(event),
        )
        self._kept.append(_Kept(event.id, event.team, frame))
        for follower in [each for each in self._followers if event.team in each.teams]:
            self._offer(follower, frame)

    def events_lost(self) -> None:
        """Tell everyone that what they know may be wrong."""
        self._metrics.lost.inc()
        self._kept.clear()
        for follower in list(self._followers):
            self._offer(follower, _RESET)

    def follow(self, teams: frozenset[TeamId], last_event_id: str | None, on_cut: Callable[[], None]) -> Follower:
        """Follow the events of `teams`, from now on or from behind an event that was seen. Use it in a `with`.

        Args:
            teams: whose events may be seen.
            last_event_id: of that event; None for from now on.
            on_cut: called when the follower is cut off; it should abort the connection.

        Raises:
            TooManyFollowersError: as many follow as may, or the hub is closed.
        """
        if self._closed or len(self._followers) >= self._max_followers:
            raise TooManyFollowersError("as many clients follow the events as may", retry_after=5)
        follower = Follower(teams, on_cut, self._leave)
        if last_event_id is not None:
            for frame in self._missed(teams, last_event_id):
                follower.offer(frame)
        self._followers.add(follower)
        self._metrics.followers.set(len(self._followers))
        return follower

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for follower in self._followers:
            follower.end()

    def _missed(self, teams: frozenset[TeamId], event_id: str) -> list[bytes]:
        """What those teams may see of the events after `event_id`."""
        for index, kept in enumerate(self._kept):
            if kept.id == event_id:
                return [later.frame for later in list(self._kept)[index + 1 :] if later.team in teams]
        return [_RESET]

    def _offer(self, follower: Follower, frame: bytes) -> None:
        follower.offer(frame)
        if follower.waiting > self._max_waiting:
            self._metrics.cut.inc()
            follower.cut()

    def _leave(self, follower: Follower) -> None:
        self._followers.discard(follower)
        self._metrics.followers.set(len(self._followers))


class Follower:
    """One client that follows the events. Made by `EventHub.follow`."""

    __slots__ = ("_ended", "_frames", "_leave", "_on_cut", "_wakeup", "teams")

    def __init__(self, teams: frozenset[TeamId], on_cut: Callable[[], None], leave: Callable[[Follower], None]) -> None:
        self.teams = teams
        self._on_cut = on_cut
        self._leave = leave
        self._frames: list[bytes] = []
        self._wakeup = asyncio.Event()
        self._ended = False

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(self)

    @property
    def waiting(self) -> int:
        """Events that wait to be sent."""
        return len(self._frames)

    def offer(self, frame: bytes) -> None:
        """Add an event to those that wait."""
        if not self._ended:
            self._frames.append(frame)
            self._wakeup.set()

    def end(self) -> None:
        """Nothing more will come; what waits may still be sent."""
        self._ended = True
        self._wakeup.set()

    def cut(self) -> None:
        """End at once, without what waits."""
        self._frames.clear()
        self.end()
        self._leave(self)
        self._on_cut()

    async def wait(self, timeout: float) -> bytes | None:
        """What is to be sent next.

        Args:
            timeout: seconds after which an empty answer is due, for a heartbeat.

        Returns:
            Whole events, or nothing after `timeout`; None at the end.
        """
        if not self._frames and not self._ended:
            try:
                async with asyncio.timeout(timeout):
                    await self._wakeup.wait()
            except TimeoutError:
                return b""
        self._wakeup.clear()
        if not self._frames:
            return None
        frames, self._frames = self._frames, []
        return b"".join(frames)
