"""The relay's session store: every live tunnel, in memory, and nothing else.

Invariants, each kept within one synchronous call, so that no other task ever sees half of a change:

1. A device has at most one session, the one of the highest epoch that was registered. A newer tunnel takes over at
   once, whether the older one is dead, half-open or well.
2. What ends a session names it by id and epoch. The clean-up of an older session, however late it comes, finds
   another id and another epoch in the device's place, and leaves them alone.
3. Every look-up goes by the team first. A session of another team is not found, never forbidden.

The tunnels know how long they have been silent, so a heartbeat costs the store nothing; `heartbeat` is there for a
tunnel that cannot tell. The async methods are the interface of `common.sessions`; none of them waits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

import msgspec

from common.clock import Clock
from common.ids import DeviceId, SessionId, TeamId, is_session_id
from common.sessions.errors import (
    DeviceOfflineError,
    InvalidCursorError,
    SessionNotFoundError,
    SessionReplacedError,
)
from common.sessions.interfaces import MAX_PAGE, Page, SessionState, Summary, Tunnel

__all__ = ["InMemoryStore", "StoreObserver", "StoreStatistics"]


T = TypeVar("T", bound=Tunnel)


class StoreObserver(Protocol):
    """Who hears of changes. No method may raise."""

    def session_online(self, session: Summary) -> None:
        """A session was registered."""

    def session_offline(self, session: Summary, reason: str) -> None:
        """A session has left the store."""

    def session_updated(self, session: Summary) -> None:
        """A session's state, or its services, are others than before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatistics:
    """Counts since the start, and what there is now."""

    sessions: int
    teams: int
    registered: int
    replaced: int
    expired: int


class _Entry(Generic[T]):
    """One session, and what was last told about it."""

    __slots__ = ("device", "device_name", "epoch", "heard_at", "id", "revision", "state", "team", "tunnel")

    def __init__(self, tunnel: T, summary: Summary, now: float) -> None:
        self.tunnel = tunnel
        self.id = summary.id
        self.team = summary.team
        self.device = summary.device
        self.device_name = summary.device_name
        self.epoch = summary.epoch
        self.state = summary.state
        self.revision = tunnel.revision
        self.heard_at = now

    @property
    def changed(self) -> bool:
        """Whether others have not been told of how it is now."""
        return self.tunnel.revision != self.revision or self.tunnel.state is not self.state

    def silence(self, now: float) -> float:
        """Seconds since a sign of life, by the tunnel's own word or by `heartbeat`."""
        return min(self.tunnel.silence(), now - self.heard_at)


class _Team(Generic[T]):
    """The sessions of one team, by every name they are looked up by."""

    __slots__ = ("by_device", "by_name", "entries", "ids")

    def __init__(self) -> None:
        self.entries: dict[SessionId, _Entry[T]] = {}
        self.ids: list[SessionId] = []
        """Sorted: a page is a bisection and a slice, whatever the number of sessions."""
        self.by_device: dict[DeviceId, _Entry[T]] = {}
        self.by_name: dict[str, tuple[_Entry[T], ...]] = {}
        """Oldest first. A name is a label, and two devices may carry the same; the newest session answers to it."""


class InMemoryStore(Generic[T]):
    """Who is connected to this relay.

    Args:
        clock: source of time.
        expires_after: seconds of silence after which `cleanup_expired` ends a session. A tunnel ends itself earlier
            (`dead_after`); this is the net below it.
        observer: hears of every change.
    """

    def __init__(self, *, clock: Clock, expires_after: float, observer: StoreObserver) -> None:
        self._clock = clock
        self._expires_after = expires_after
        self._observer = observer
        self._teams: dict[TeamId, _Team[T]] = {}
        self._sessions = 0
        self._registered = 0
        self._replaced = 0
        self._expired = 0

    def __len__(self) -> int:
        return self._sessions

    def __iter__(self) -> Iterator[T]:
        """Every tunnel, of every team: for drain and for metrics, never for a caller with a team."""
        return iter([entry.tunnel for team in self._teams.values() for entry in team.entries.values()])

    def __repr__(self) -> str:
        return f"<InMemoryStore, {self._sessions} sessions of {len(self._teams)} teams>"

    def statistics(self) -> StoreStatistics:
        """Counts for metrics."""
        return StoreStatistics(
            sessions=self._sessions,
            teams=len(self._teams),
            registered=self._registered,
            replaced=self._replaced,
            expired=self._expired,
        )

    # Changes

    def register_nowait(self, tunnel: T) -> None:
        """Make `tunnel` the session of its device; the older one is gone from the store when this returns, and closed.

        Raises:
            SessionReplacedError: the device has a session of a higher epoch, or another one of the same.
        """
        summary = tunnel.describe()
        sessions = self._teams.get(summary.team)
        older = sessions.by_device.get(summary.device) if sessions is not None else None
        if older is not None:
            if older.tunnel is tunnel:
                return
            if older.epoch >= summary.epoch:
                raise SessionReplacedError(
                    f"the device has a session of epoch {older.epoch}, this one is of epoch {summary.epoch}"
                )
            self._remove(older)
            self._replaced += 1
        self._add(_Entry(tunnel, summary, self._clock.monotonic()))
        self._registered += 1
        # Others are told last: what they do in turn finds the store whole.
        if older is not None:
            self._observer.session_offline(_last_summary(older.tunnel), "replaced")
        self._observer.session_online(summary)
        if older is not None:
            older.tunnel.close("replaced")

    def unregister_nowait(
        self, team: TeamId, session_id: SessionId, epoch: int | None = None, *, reason: str = "closed_by_operator"
    ) -> bool:
        """End and forget a session, if it has that `epoch`; returns whether there was one."""
        entry = self._find(team, session_id)
        if entry is None or (epoch is not None and entry.epoch != epoch):
            return False
        self._remove(entry)
        self._observer.session_offline(_last_summary(entry.tunnel), reason)
        entry.tunnel.close(reason)
        return True

    def update_nowait(self, team: TeamId, session_id: SessionId) -> None:
        """Tell the observer that a session's services or state have changed. A no-op for one that is gone."""
        entry = self._find(team, session_id)
        if entry is not None:
            summary = entry.tunnel.describe()
            entry.state = summary.state
            entry.revision = entry.tunnel.revision
            self._observer.session_updated(summary)

    def refresh(self, batch: int = 500) -> Iterator[None]:
        """Go once through all sessions and tell of those that have changed since they were last told of: by time alone,
        as when a tunnel falls silent, or too often to be told of at once. Yields after each `batch`, so that the
        caller lets the loop turn: 20,000 sessions are not one step.
        """
        seen = 0
        for name in list(self._teams):
            team = self._teams.get(name)
            for session_id in list(team.entries) if team is not None else ():
                entry = self._find(name, session_id)
                if entry is not None and entry.changed:
                    self.update_nowait(name, session_id)
                seen += 1
                if seen % batch == 0:
                    yield

    def heartbeat_nowait(self, team: TeamId, session_id: SessionId, epoch: int) -> None:
        """Note that the session is alive.

        Raises:
            SessionNotFoundError: no such session of that epoch.
        """
        entry = self._find(team, session_id)
        if entry is None or entry.epoch != epoch:
            raise SessionNotFoundError
        entry.heard_at = self._clock.monotonic()

    def cleanup_expired_nowait(self) -> int:
        """End the sessions that have been silent for `expires_after`; returns how many."""
        now = self._clock.monotonic()
        expired = [
            entry
            for team in self._teams.values()
            for entry in team.entries.values()
            if entry.silence(now) > self._expires_after
        ]
        for entry in expired:
            self.unregister_nowait(entry.team, entry.id, entry.epoch, reason="dead")
        self._expired += len(expired)
        return len(expired)

    # Look-ups

    def lookup_nowait(self, team: TeamId, session_id: SessionId) -> T:
        """The tunnel of a session.

        Raises:
            SessionNotFoundError: no such session in the team.
        """
        entry = self._find(team, session_id)
        if entry is None:
            raise SessionNotFoundError
        return entry.tunnel

    def lookup_device_nowait(self, team: TeamId, device: str) -> T:
        """The tunnel of the device with that id or, when there is none, that name.

        Raises:
            DeviceOfflineError: the device has no session in the team.
        """
        sessions = self._teams.get(team)
        if sessions is not None:
            entry = sessions.by_device.get(DeviceId(device))
            if entry is not None:
                return entry.tunnel
            if device in sessions.by_name:
                return sessions.by_name[device][-1].tunnel
        raise DeviceOfflineError

    def find_device(self, team: TeamId, device: DeviceId) -> T | None:
        """The tunnel of the device with that id, if it has a session here."""
        sessions = self._teams.get(team)
        entry = sessions.by_device.get(device) if sessions is not None else None
        return entry.tunnel if entry is not None else None

    def list_nowait(self, team: TeamId, *, limit: int = 100, cursor: str | None = None) -> Page:
        """A page of the team's sessions, in the order of their ids.

        A page costs by what it holds, not by what the team has. A session that comes or goes between two pages is
        listed or not; every session that stays is listed once.

        Raises:
            InvalidCursorError: `cursor` is not one that a page gave.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit must be from 1 to {MAX_PAGE}, not {limit}")
        if cursor is not None and not is_session_id(cursor):
            raise InvalidCursorError
        sessions = self._teams.get(team)
        if sessions is None:
            return Page(items=[], next=None)
        ids = sessions.ids
        start = bisect_right(ids, SessionId(cursor)) if cursor is not None else 0
        page = ids[start : start + limit]
        return Page(
            items=[sessions.entries[session_id].tunnel.describe() for session_id in page],
            next=page[-1] if start + limit < len(ids) else None,
        )

    # The interface of common.sessions

    async def register(self, tunnel: Tunnel) -> None:
        self.register_nowait(cast(T, tunnel))  # one relay has one kind of tunnel, and its look-ups give that kind back

    async def unregister(self, team: TeamId, session_id: SessionId, epoch: int | None = None) -> bool:
        return self.unregister_nowait(team, session_id, epoch)

    async def lookup(self, team: TeamId, session_id: SessionId) -> T:
        return self.lookup_nowait(team, session_id)

    async def lookup_device(self, team: TeamId, device: str) -> T:
        return self.lookup_device_nowait(team, device)

    async def exists(self, team: TeamId, session_id: SessionId) -> bool:
        return self._find(team, session_id) is not None

    async def list(self, team: TeamId, *, limit: int = 100, cursor: str | None = None) -> Page:
        return self.list_nowait(team, limit=limit, cursor=cursor)

    async def heartbeat(self, team: TeamId, session_id: SessionId, epoch: int) -> None:
        self.heartbeat_nowait(team, session_id, epoch)

    async def cleanup_expired(self) -> int:
        return self.cleanup_expired_nowait()

    # Inside

    def _find(self, team: TeamId, session_id: SessionId) -> _Entry[T] | None:
        sessions = self._teams.get(team)
        return sessions.entries.get(session_id) if sessions is not None else None

    def _add(self, entry: _Entry[T]) -> None:
        sessions = self._teams.get(entry.team)
        if sessions is None:
            sessions = self._teams[entry.team] = _Team()
        sessions.entries[entry.id] = entry
        insort(sessions.ids, entry.id)
        sessions.by_device[entry.device] = entry
        sessions.by_name[entry.device_name] = (*sessions.by_name.get(entry.device_name, ()), entry)
        self._sessions += 1

    def _remove(self, entry: _Entry[T]) -> None:
        sessions = self._teams[entry.team]
        del sessions.entries[entry.id]
        del sessions.ids[bisect_left(sessions.ids, entry.id)]
        del sessions.by_device[entry.device]
        left = tuple(other for other in sessions.by_name[entry.device_name] if other is not entry)
        if left:
            sessions.by_name[entry.device_name] = left
        else:
            del sessions.by_name[entry.device_name]
        if not sessions.entries:
            del self._teams[entry.team]
        self._sessions -= 1


def _last_summary(tunnel: Tunnel) -> Summary:
    """What is told of a session that has ended: it takes no streams, whatever its tunnel still says."""
    return msgspec.structs.replace(tunnel.describe(), state=SessionState.DRAINING)
