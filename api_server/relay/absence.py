"""What a request does while the relay, or a device because of the relay, is away for a moment: it waits, bounded.

A relay that is restarted takes every tunnel with it, and each device is back as soon as its back-off lets it. Nothing
of a request has been sent by then, so it may wait instead of failing. It waits only where the relay is the cause:

    the relay does not answer                     until `patience` after that was first seen
    a device is not there, and the relay has      until `patience` after the relay was seen again
    just come back, or is another one
    the device is being sent away (it drains)     until `patience` after the relay said so
    a device that was there has vanished          for a moment, in which the relay says why, if it is the same still

As soon as the relay says that a session ended for a reason of the device's own, requests for it fail at once. A relay
that stays away makes requests wait once, not each of them for as long: the time counts from when it was lost.
"""

from __future__ import annotations

import asyncio
from typing import Final

from api_server.relay.events import EventKind, SessionEvent
from common.clock import Clock
from common.ids import TeamId
from common.sessions.interfaces import SessionState

__all__ = ["Absence"]

_LOOK: Final = 0.5
"""Seconds after which one looks again without any news: the events may be away as well."""

_MOMENT: Final = 1.0
"""Seconds in which the relay says why a device vanished."""

_MAX_REMEMBERED: Final = 20_000
"""Devices of which it is remembered how they went."""

_NEVER: Final = float("-inf")

_Key = tuple[TeamId, str]


class Absence:
    """Who is away because of the relay, and since when. Implements `EventListener`.

    Args:
        clock: time source.
        patience: seconds that a request waits at most; 0: it never does.
        max_waiting: requests that wait at a time; the others fail as if there were no patience.
    """

    __slots__ = (
        "_back_at",
        "_clock",
        "_left",
        "_lost_at",
        "_max_waiting",
        "_news",
        "_seen",
        "_sent_away",
        "patience",
        "waited",
        "waiting",
    )

    def __init__(self, *, clock: Clock, patience: float = 10.0, max_waiting: int = 2000) -> None:
        self._clock = clock
        self.patience = patience
        self._max_waiting = max_waiting
        self._seen = False
        """Whether there ever was a relay: one that never answered is not being restarted."""
        self._lost_at: float | None = None
        self._back_at = _NEVER
        self._left: dict[_Key, None] = {}
        """Devices that went of their own doing."""
        self._sent_away: dict[_Key, float] = {}
        """Devices that drain or were drained, and since when."""
        self._news = asyncio.Event()
        self.waiting = 0
        """Requests that wait now."""
        self.waited = 0
        """Requests that have waited."""

    def __repr__(self) -> str:
        return f"<Absence, relay {'here' if self._lost_at is None else 'away'}, {self.waiting} waiting>"

    def now(self) -> float:
        """Monotonic time."""
        return self._clock.monotonic()

    # What happens

    def relay_lost(self) -> None:
        """The relay does not answer."""
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
            self._left.clear()

    def relay_back(self) -> None:
        """The relay answers."""
        self._seen = True
        if self._lost_at is not None:
            self._lost_at = None
            self._back_at = self._clock.monotonic()
            self._tell()

    def events_lost(self) -> None:
        """It may be another relay than before."""
        self._left.clear()
        if self._seen:
            self._back_at = self._clock.monotonic()
            self._tell()

    def session_changed(self, event: SessionEvent) -> None:
        self._seen = True
        session = event.session
        sent_away = event.reason == "draining" if event.type == EventKind.OFFLINE else session.state is _DRAINING
        for key in ((session.team, str(session.device)), (session.team, session.device_name)):
            self._left.pop(key, None)
            since = self._sent_away.pop(key, None)
            if sent_away:
                self._sent_away[key] = self._clock.monotonic() if since is None else since
            elif event.type == EventKind.OFFLINE and event.reason != "replaced":
                self._left[key] = None
        for remembered in (self._left, self._sent_away):
            while len(remembered) > _MAX_REMEMBERED:
                del remembered[next(iter(remembered))]
        self._tell()

    # Requests

    def deadline(self, team: TeamId, device: str, *, vanished_at: float | None = None) -> float:
        """Until when, on the monotonic clock, it is worth while to wait for the device; in the past if it is not.

        Args:
            vanished_at: when a session of it was found to be gone that was there before.
        """
        key = (team, device)
        if not self.patience or not self._seen or key in self._left:
            return _NEVER
        if self._lost_at is not None:
            return self._lost_at + self.patience
        deadline = max(self._back_at, self._sent_away.get(key, _NEVER)) + self.patience
        if vanished_at is not None:
            deadline = max(deadline, vanished_at + min(_MOMENT, self.patience))
        return deadline

    async def wait(self, until: float) -> bool:
        """Wait for news; returns whether it is worth while to try again. False: the time is over, or too many wait."""
        remaining = until - self._clock.monotonic()
        if remaining <= 0 or self.waiting >= self._max_waiting:
            return False
        self.waiting += 1
        self.waited += 1
        try:
            async with asyncio.timeout(min(remaining, _LOOK)):
                await self._news.wait()
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1
        return True

    def _tell(self) -> None:
        """Wake who waits; who comes later waits for the next."""
        self._news.set()
        self._news = asyncio.Event()


_DRAINING: Final = SessionState.DRAINING
