"""Where a device is now: its session and epoch, remembered for a short while.

The relay is the truth and this is a cache of it. An entry may be wrong for as long as it lives, and a stream that is
opened on a wrong one is refused by the relay, because the open carries the epoch: `forget` it then and ask again, once.
The relay's events make entries right sooner; without them everything still works, a little slower.

However many callers want the same device at the same time, one of them asks and the others wait for it. If that one is
cancelled, another takes its place: nobody fails because somebody else's client hung up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from common.clock import Clock
from common.ids import SessionId, TeamId
from common.sessions.errors import DeviceOfflineError, DeviceUnknownError
from common.sessions.interfaces import Summary

__all__ = ["DirectoryStatistics", "Location", "SessionDirectory"]

_Key = tuple[TeamId, str]


@dataclass(frozen=True, slots=True)
class Location:
    """The session that a device was found in."""

    session_id: SessionId
    epoch: int
    device: str = field(default="", compare=False)
    """Id of the device; empty if that was not told."""


@dataclass(frozen=True, slots=True)
class DirectoryStatistics:
    """What a directory has done so far, and what it holds."""

    entries: int
    hits: int
    lookups: int
    forgotten: int
    """Entries found to be wrong when they were used."""


@dataclass(slots=True)
class _Entry:
    location: Location | None
    """None: the device was offline."""
    expires: float
    unknown: bool = False
    """It was offline because the team has no such device."""


@dataclass(slots=True, eq=False)
class _Flight:
    """A lookup under way."""

    landed: asyncio.Event = field(default_factory=asyncio.Event)
    location: Location | None = None
    error: Exception | None = None
    cancelled: bool = False
    overtaken: bool = False
    """An event about the device came meanwhile: what the lookup brings may be older, and is not remembered."""


class SessionDirectory:
    """Remembers which session a device is in.

    Args:
        find: asks the relay; raises `DeviceOfflineError` when there is no session, `DeviceUnknownError` when there is
            no such device either, other errors as they come.
        clock: time source.
        ttl: seconds that a location is remembered.
        offline_ttl: seconds that a device is remembered to be offline; short, because it delays a device that comes
            back without an event.
        max_entries: devices remembered; the one that was learned first makes way.
    """

    __slots__ = (
        "_clock",
        "_entries",
        "_find",
        "_flights",
        "_forgotten",
        "_hits",
        "_lookups",
        "_max_entries",
        "_offline_ttl",
        "_ttl",
    )

    def __init__(
        self,
        find: Callable[[TeamId, str], Awaitable[Location]],
        *,
        clock: Clock,
        ttl: float = 10.0,
        offline_ttl: float = 0.5,
        max_entries: int = 50_000,
    ) -> None:
        self._find = find
        self._clock = clock
        self._ttl = ttl
        self._offline_ttl = offline_ttl
        self._max_entries = max_entries
        self._entries: dict[_Key, _Entry] = {}
        self._flights: dict[_Key, _Flight] = {}
        self._hits = self._lookups = self._forgotten = 0

    def __repr__(self) -> str:
        return f"<SessionDirectory {len(self._entries)} entries, {len(self._flights)} lookups under way>"

    def statistics(self) -> DirectoryStatistics:
        """Counts so far."""
        return DirectoryStatistics(len(self._entries), self._hits, self._lookups, self._forgotten)

    def get_nowait(self, team: TeamId, device: str) -> Location | None:
        """Where the device is, if that is remembered; None: ask `get`.

        Raises:
            DeviceOfflineError: it is remembered to be offline; `DeviceUnknownError` when there is none.
        """
        entry = self._entries.get((team, device))
        if entry is None or entry.expires <= self._clock.monotonic():
            return None
        self._hits += 1
        if entry.location is None:
            if entry.unknown:
                raise DeviceUnknownError(f"the team has no device {device}")
            raise DeviceOfflineError(f"the device {device} has no tunnel to the relay")
        return entry.location

    def id_of(self, team: TeamId, device: str) -> str:
        """The id of a device that may have been named otherwise, if it was found of late; else what it was named."""
        entry = self._entries.get((team, device))
        return device if entry is None or entry.location is None else entry.location.device or device

    async def get(self, team: TeamId, device: str) -> Location:
        """Where the device is, asked of the relay if need be.

        Raises:
            DeviceOfflineError: the device has no session.
            RelayUnavailableError: the relay does not answer.
        """
        key = (team, device)
        while True:
            location = self.get_nowait(team, device)
            if location is not None:
                return location
            flight = self._flights.get(key)
            if flight is None:
                return await self._look_up(key)
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if flight.location is not None:
                return flight.location
            # Whoever asked was cancelled. The first of those who waited asks now.

    async def _look_up(self, key: _Key) -> Location:
        flight = self._flights[key] = _Flight()
        self._lookups += 1
        try:
            flight.location = await self._find(*key)
        except DeviceOfflineError as exc:
            flight.error = exc
            self._remember(key, None, self._offline_ttl, flight, unknown=isinstance(exc, DeviceUnknownError))
            raise
        except Exception as exc:
            flight.error = exc
            raise
        finally:
            del self._flights[key]
            flight.landed.set()
        self._remember(key, flight.location, self._ttl, flight)
        return flight.location

    def _remember(
        self, key: _Key, location: Location | None, ttl: float, flight: _Flight, *, unknown: bool = False
    ) -> None:
        if flight.overtaken:
            return
        self._entries.pop(key, None)
        if len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = _Entry(location, self._clock.monotonic() + ttl, unknown)

    def forget(self, team: TeamId, device: str, location: Location) -> None:
        """The relay refused `location`: drop it, unless something newer is remembered already."""
        entry = self._entries.get((team, device))
        if entry is not None and entry.location == location:
            del self._entries[team, device]
            self._forgotten += 1

    def went_online(self, session: Summary) -> None:
        """The relay says that a session began, or that it is as `session` says now."""
        location = Location(session.id, session.epoch, session.device)
        expires = self._clock.monotonic() + self._ttl
        for key in self._keys(session):
            entry = self._entries.get(key)
            # Only what somebody asks for is remembered. A late event of an older session changes nothing.
            if entry is not None and (entry.location is None or entry.location.epoch <= location.epoch):
                entry.location = location
                entry.expires = expires

    def went_offline(self, session: Summary) -> None:
        """The relay says that a session is over, or takes no new streams."""
        for key in self._keys(session):
            entry = self._entries.get(key)
            if entry is not None and entry.location is not None and entry.location.epoch <= session.epoch:
                del self._entries[key]

    def clear(self) -> None:
        """Forget everything: events were lost."""
        self._entries.clear()
        for flight in self._flights.values():
            flight.overtaken = True

    def _keys(self, session: Summary) -> set[_Key]:
        """The keys that a session is asked for by: its device's id and name. Lookups under way are told."""
        keys = {(session.team, str(session.device)), (session.team, session.device_name)}
        for key in keys:
            flight = self._flights.get(key)
            if flight is not None:
                flight.overtaken = True
        return keys
