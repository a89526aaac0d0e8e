"""What each subject uses at the moment, and what it may: one meter a subject, made when it is first seen.

What a meter counts with is a matter of who else counts: `parts` makes it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from api_server.limits.records import Limits, Rate, SubjectKind

__all__ = ["Meter", "MeterParts", "MeterTable", "Pace", "Quota", "Slots"]

_MOST: Final = 20_000
"""Meters that are kept. The one that was not used for longest makes way, unless something is under way by it."""


class Quota(Protocol):
    """A quota of one subject."""

    rate: Rate

    def take(self, now: float) -> bool | None:
        """Use one unit: True, False, or None when only `wait_take` can tell."""
        ...

    async def wait_take(self) -> bool:
        """The same, and wait if need be."""
        ...

    def give_back(self) -> None:
        """A unit was not used in the end."""

    def refuses(self, now: float) -> bool:
        """Whether one unit more is known to be too many; nothing is used."""
        ...

    def wait(self, now: float) -> float:
        """Seconds until one more unit can be used, about."""
        ...

    def remaining(self, now: float) -> int:
        """Units that are left, as far as this process knows."""
        ...


class Slots(Protocol):
    """How many streams of one subject may be under way at a time."""

    most: int
    """In all."""

    def free(self, now: float) -> bool | None:
        """Whether one more may begin; None when only `wait_free` can tell."""
        ...

    async def wait_free(self) -> None:
        """Return once `free` can tell, for the moment."""
        ...

    def ended(self) -> None:
        """One is over."""


class Pace(Protocol):
    """How fast the bytes of one subject may go."""

    def spend(self, size: int, now: float) -> float:
        """Count bytes that have gone. Returns the seconds to wait before more of them go."""
        ...


class MeterParts(Protocol):
    """Makes what meters count with. Each has a name among all processes."""

    def quota(self, name: str, rate: Rate) -> Quota:
        """Requests in a time."""
        ...

    def opens(self, name: str, rate: int) -> Quota:
        """Streams that are newly opened a second."""
        ...

    def slots(self, name: str, most: int, under_way: Callable[[], int]) -> Slots:
        """Streams at a time; `under_way` tells those of this process."""
        ...

    def pace(self, name: str, rate: int) -> Pace:
        """Bytes a second."""
        ...


class Meter:
    """What one subject uses.

    Args:
        kind: of subject.
        key: names it among all of its kind.
        limits: in effect.
        parts: makes what it counts with.
    """

    __slots__ = ("api", "key", "kind", "limits", "opens", "pace", "requests", "slots", "streams", "told_at")

    def __init__(self, kind: SubjectKind, key: str, limits: Limits, parts: MeterParts) -> None:
        self.kind = kind
        self.key = key
        self.streams = 0
        """Under way in this process."""
        self.told_at = float("-inf")
        """When somebody was last told that it is refused."""
        self.limits = Limits()
        self.requests: Quota | None = None
        self.api: Quota | None = None
        self.opens: Quota | None = None
        self.slots: Slots | None = None
        self.pace: Pace | None = None
        self.apply(limits, parts)

    def __repr__(self) -> str:
        return f"<Meter {self.kind} {self.key}: {self.streams} streams>"

    def apply(self, limits: Limits, parts: MeterParts) -> None:
        """From now on these limits hold. What was counted under one that did not change stays counted."""
        before, self.limits = self.limits, limits
        if limits.requests != before.requests:
            self.requests = None if limits.requests is None else parts.quota(self._name("requests"), limits.requests)
        if limits.api_requests != before.api_requests:
            self.api = None if limits.api_requests is None else parts.quota(self._name("api"), limits.api_requests)
        if (opens := limits.opens_per_second) != before.opens_per_second:
            self.opens = None if opens is None else parts.opens(self._name("opens"), opens)
        if (streams := limits.streams) != before.streams:
            self.slots = None if streams is None else parts.slots(self._name("streams"), streams, lambda: self.streams)
        if (pace := limits.bytes_per_second) != before.bytes_per_second:
            self.pace = None if pace is None else parts.pace(self._name("bytes"), pace)

    def _name(self, what: str) -> str:
        return f"{what}:{self.kind}:{self.key}"


class MeterTable:
    """The meters of one kind of subject, at most so many."""

    __slots__ = ("_meters", "_most")

    def __init__(self, most: int = _MOST) -> None:
        self._meters: OrderedDict[str, Meter] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._meters)

    def find(self, key: str) -> Meter | None:
        """The meter of a subject, which is in use again; None when there is none yet."""
        meter = self._meters.get(key)
        if meter is not None:
            self._meters.move_to_end(key)
        return meter

    def add(self, meter: Meter) -> Meter:
        """Keep a new meter."""
        self._meters[meter.key] = meter
        if len(self._meters) > self._most:
            self._make_room()
        return meter

    def each(self) -> list[Meter]:
        """All of them."""
        return list(self._meters.values())

    def _make_room(self) -> None:
        for key, meter in self._meters.items():
            if not meter.streams:
                del self._meters[key]
                return
