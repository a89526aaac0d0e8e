"""What meters count with: alone, or together with the other processes. Which it is, is a type, and no `if` anywhere."""

from __future__ import annotations

from collections.abc import Callable

from api_server.limits.meters import Pace, Quota, Slots
from api_server.limits.paces import SharedPace
from api_server.limits.records import Rate
from api_server.limits.shared import SharedCounter, SharedQuota
from api_server.limits.slots import LocalSlots, SlotKeeper
from api_server.limits.window import DebtBucket, OpenBucket, SlidingWindow

__all__ = ["LocalOpens", "LocalParts", "LocalQuota", "SharedParts"]

_SECOND = 1


class LocalQuota(SlidingWindow):
    """Counted by this process alone. Implements `Quota`."""

    __slots__ = ("_now", "rate")

    def __init__(self, rate: Rate, now: Callable[[], float]) -> None:
        super().__init__(rate.quota, rate.window)
        self.rate = rate
        self._now = now

    async def wait_take(self) -> bool:
        return self.take(self._now())

    def give_back(self) -> None:
        self._count = max(0, self._count - 1)

    def refuses(self, now: float) -> bool:
        return not self.remaining(now)


class LocalOpens(OpenBucket):
    """The same, of streams that are newly opened: as many a second as at once."""

    __slots__ = ("_now", "rate")

    def __init__(self, rate: int, now: Callable[[], float]) -> None:
        super().__init__(rate)
        self.rate = Rate(quota=rate, window=_SECOND)
        self._now = now

    async def wait_take(self) -> bool:
        return self.take(self._now())

    def refuses(self, now: float) -> bool:
        return self.wait(now) > 0.0

    def remaining(self, now: float) -> int:
        return int(self.wait(now) <= 0.0)


class LocalParts:
    """This process counts alone. Implements `MeterParts`.

    Args:
        now: tells the monotonic time.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def quota(self, name: str, rate: Rate) -> Quota:  # noqa: ARG002  nobody else has to find it
        return LocalQuota(rate, self._now)

    def opens(self, name: str, rate: int) -> Quota:  # noqa: ARG002
        return LocalOpens(rate, self._now)

    def slots(self, name: str, most: int, under_way: Callable[[], int]) -> Slots:  # noqa: ARG002
        return LocalSlots(most, under_way)

    def pace(self, name: str, rate: int) -> Pace:  # noqa: ARG002
        return DebtBucket(rate)


class SharedParts:
    """All processes count together. Implements `MeterParts`.

    Args:
        shared: counts for all.
        keeper: of the slots that this process holds.
    """

    def __init__(self, shared: SharedCounter, keeper: SlotKeeper) -> None:
        self._shared = shared
        self._keeper = keeper

    def quota(self, name: str, rate: Rate) -> Quota:
        return SharedQuota(self._shared, name, rate)

    def opens(self, name: str, rate: int) -> Quota:
        return SharedQuota(self._shared, name, Rate(quota=rate, window=_SECOND))

    def slots(self, name: str, most: int, under_way: Callable[[], int]) -> Slots:
        return self._keeper.slots(name, most, under_way)

    def pace(self, name: str, rate: int) -> Pace:
        return SharedPace(self._shared, name, rate)
