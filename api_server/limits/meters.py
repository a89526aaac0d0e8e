"""What each subject uses at the moment, and what it may: one meter a subject, made when it is first seen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from api_server.limits.records import Limits, Rate, SubjectKind
from api_server.limits.window import DebtBucket, OpenBucket, SlidingWindow

__all__ = ["LocalQuota", "Meter", "MeterTable", "Quota", "QuotaMaker"]

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

    def wait(self, now: float) -> float:
        """Seconds until one more unit can be used, about."""
        ...

    def remaining(self, now: float) -> int:
        """Units that are left, as far as this process knows."""
        ...


class LocalQuota(SlidingWindow):
    """Counted by this process alone. Implements `Quota`."""

    __slots__ = ("_clock", "rate")

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        super().__init__(rate.quota, rate.window)
        self.rate = rate
        self._clock = clock

    async def wait_take(self) -> bool:
        return self.take(self._clock())

    def give_back(self) -> None:
        self._count = max(0, self._count - 1)


QuotaMaker = Callable[[str, Rate], Quota]
"""Makes a quota by the name that it has among all processes."""


class Meter:
    """What one subject uses.

    Args:
        kind: of subject.
        key: names it among all of its kind.
        limits: in effect.
        quota: makes its quotas.
    """

    __slots__ = ("api", "key", "kind", "limits", "opens", "pace", "requests", "streams", "told_at")

    def __init__(self, kind: SubjectKind, key: str, limits: Limits, quota: QuotaMaker) -> None:
        self.kind = kind
        self.key = key
        self.streams = 0
        """Under way."""
        self.told_at = float("-inf")
        """When somebody was last told that it is refused."""
        self.limits = Limits()
        self.requests: Quota | None = None
        self.api: Quota | None = None
        self.opens: OpenBucket | None = None
        self.pace: DebtBucket | None = None
        self.apply(limits, quota)

    def __repr__(self) -> str:
        return f"<Meter {self.kind} {self.key}: {self.streams} streams>"

    def apply(self, limits: Limits, quota: QuotaMaker) -> None:
        """From now on these limits hold. What was counted under one that did not change stays counted."""
        before, self.limits = self.limits, limits
        if limits.requests != before.requests:
            self.requests = None if limits.requests is None else quota(self._name("requests"), limits.requests)
        if limits.api_requests != before.api_requests:
            self.api = None if limits.api_requests is None else quota(self._name("api"), limits.api_requests)
        if limits.opens_per_second != before.opens_per_second:
            self.opens = None if limits.opens_per_second is None else OpenBucket(limits.opens_per_second)
        if limits.bytes_per_second != before.bytes_per_second:
            self.pace = None if limits.bytes_per_second is None else DebtBucket(limits.bytes_per_second)

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
