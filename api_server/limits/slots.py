"""How many streams of a subject are under way at a time, over all processes: each holds slots, in Valkey, and begins no
stream without one.

    free ──a slot held is not in use──> yes                 without asking; a stream that ends leaves its slot here
      ├──as many are under way here as may in all──> no
      ├──refused a moment ago──> no
      ├──Valkey is away──> this process counts alone
      └──no slot left──> pending ──ask──> yes, or no: others may hold what they do not use, so it is asked once more

                 a little more than is needed is asked for, at most a twentieth of all
    every 50 ms  what was not in use since the last look is given back
    every 10 s   what is held is asked for anew; a process that is gone loses its slots within 30

So the sum never goes beyond the limit, and a limit under 20 is exact: of a larger one a twentieth can go unused for a
moment in each process. Streams that began while Valkey was away, or under another limit, count when it is heard of
again, and nothing is cut for them.

One coroutine asks for all subjects, so what is wanted at the same time is one round trip; up to a bound, and first that
for which requests wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final

from api_server.limits.shared import SharedCounter
from api_server.limits.valkey_counter import Hold

__all__ = ["LocalSlots", "SharedSlots", "SlotKeeper"]

_AHEAD: Final = 20
"""A process asks for this part of the limit beyond what it needs."""

_LOOK: Final = 0.05
"""Seconds between two looks at what is not in use."""

_RENEWALS: Final = 3
"""It is asked so often for what is held before it would be lost."""

_TOGETHER: Final = 200
"""Subjects of a question: it has to be answered in a fraction of its deadline."""

_PATIENCE: Final = 4 * _LOOK
"""Seconds until others have given back what they do not use."""

_REFUSED: Final = 0.25
"""Seconds for which it is believed that there are no more."""


class LocalSlots:
    """Counted by this process alone. Implements `Slots`.

    Args:
        most: at a time.
        under_way: tells how many there are.
    """

    __slots__ = ("_under_way", "most")

    def __init__(self, most: int, under_way: Callable[[], int]) -> None:
        self.most = most
        self._under_way = under_way

    def free(self, now: float) -> bool:  # noqa: ARG002
        return self._under_way() < self.most

    async def wait_free(self) -> None:
        """It can always tell."""

    def ended(self) -> None:
        """Whoever counts knows."""


class SharedSlots:
    """The slots of one subject, in this process. Implements `Slots`.

    Args:
        keeper: asks for them.
        name: of the subject, among all processes.
        most: at a time, in all.
        under_way: tells how many there are in this process.
    """

    __slots__ = (
        "_busiest",
        "_granted",
        "_keeper",
        "_more_at",
        "_refused_until",
        "_short",
        "_until",
        "_waiting",
        "most",
        "name",
        "under_way",
        "want",
    )

    def __init__(self, keeper: SlotKeeper, name: str, most: int, under_way: Callable[[], int]) -> None:
        self.name = name
        self.most = most
        self.under_way = under_way
        self.want = 0
        """That are to be asked for."""
        self._keeper = keeper
        self._granted = 0
        self._until = 0.0
        """When they are no longer held."""
        self._short = False
        """There were not as many as were wanted."""
        self._more_at = 0.0
        """Until then, there is no use in asking for more than is needed."""
        self._refused_until = 0.0
        self._waiting = 0
        self._busiest = 0
        """As many were in use since the last look."""

    def __repr__(self) -> str:
        return f"<SharedSlots {self.name}: {self.under_way()} of {self._granted} in use>"

    def free(self, now: float) -> bool | None:
        in_use = self.under_way()
        if in_use >= self.most:
            return False
        if self._keeper.shared.is_away(now):
            self._keeper.shared.counted_alone()
            return True
        if in_use < self._granted and now < self._until:
            self._busiest = max(self._busiest, in_use + 1)
            ahead = self.most // _AHEAD
            if (
                ahead > 1
                and self._granted - in_use <= ahead // 2
                and self._granted < self.most
                and now >= self._more_at
            ):
                self._ask_for_more(in_use)
            return True
        return False if now < self._refused_until else None

    async def wait_free(self) -> None:
        shared = self._keeper.shared
        if self.free(shared.clock.monotonic()) is not None:
            return
        shared.metrics.waited.inc()
        self._waiting += 1
        try:
            patient = True
            while self.free(shared.clock.monotonic()) is None:
                self._short = False
                self._ask_for_more(self.under_way())
                await self._keeper.wait_answer()
                now = shared.clock.monotonic()
                if not self._short or self.free(now) is not None:
                    continue  # it is known, or who asked at the same time has them all, and there are more
                if patient:
                    patient = False
                    await self._keeper.sleep(_PATIENCE)
                else:
                    self._refused_until = now + _REFUSED
        finally:
            self._waiting -= 1

    def ended(self) -> None:
        self._keeper.loosen(self)

    def _ask_for_more(self, in_use: int) -> None:
        needed = in_use + max(1, self._waiting)
        self.want = min(self.most, max(self._granted, needed + self.most // _AHEAD))
        self._keeper.ask(self)

    # For the keeper

    def change(self, most: int, under_way: Callable[[], int]) -> None:
        """The limit is another one; of what was had under it, nothing is certain."""
        self.most = most
        self.under_way = under_way
        self._until = self._refused_until = 0.0

    @property
    def held(self) -> int:
        """That this process has."""
        return self._granted

    def give_back(self) -> bool:
        """Look at what is not in use. Returns whether some is to be given back; then it is not used any more."""
        in_use = self.under_way()
        needed = max(in_use, self._busiest)
        self._busiest = in_use
        if needed >= self._granted:
            return False
        self._granted = self.want = needed
        return True

    @property
    def settled(self) -> bool:
        """Whether there is nothing to give back, as long as no stream ends."""
        return self._granted <= self.under_way()

    def hold(self) -> Hold:
        """What to ask for."""
        return Hold(self.name, self.under_way(), self.want, self.most)

    def granted(self, number: int, asked: Hold, now: float, until: float) -> None:
        """So many are held, until then."""
        self._granted = number
        self._until = until
        self._short = number < asked.want
        if self._short:
            self._more_at = now + _REFUSED


class SlotKeeper:
    """Asks for the slots of this process.

    Args:
        shared: counts for all processes.
        sleep: waits for so many seconds.
    """

    def __init__(self, shared: SharedCounter, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.shared = shared
        self.sleep = sleep
        self._slack: set[SharedSlots] = set()
        """Slots that may not all be in use."""
        self._known: dict[str, SharedSlots] = {}
        """Of which some are held, or asked for."""
        self._asked: dict[SharedSlots, None] = {}
        """Those of which more are wanted."""
        self._due: dict[SharedSlots, None] = {}
        """Those that are to be asked for anew, or given back."""
        self._news = asyncio.Event()
        self._answer = asyncio.Event()
        """To the next question."""
        self._look_at = self._renew_at = 0.0
        self._renewal = shared.counter.held_for / _RENEWALS

    def __repr__(self) -> str:
        return f"<SlotKeeper: slots of {len(self._known)} subjects>"

    def slots(self, name: str, most: int, under_way: Callable[[], int]) -> SharedSlots:
        """Those of a subject: the same ones, for as long as some are held."""
        known = self._known.get(name)
        if known is None:
            return SharedSlots(self, name, most, under_way)
        known.change(most, under_way)
        return known

    def ask(self, slots: SharedSlots) -> None:
        """Ask for as many as it wants, with the next question."""
        self._known[slots.name] = slots
        self._asked[slots] = None
        self._news.set()

    async def wait_answer(self) -> None:
        """Return once what was asked for by now is answered, or cannot be."""
        await self._answer.wait()

    def loosen(self, slots: SharedSlots) -> None:
        """They may not all be in use any more."""
        if not self._slack:
            self._news.set()
        self._slack.add(slots)

    async def run(self) -> None:
        """Ask until cancelled; what is held is given back then."""
        clock = self.shared.clock
        try:
            while True:
                pause = None if not self._known else _LOOK if self._slack else self._renewal
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._news.wait()
                self._news.clear()
                now = clock.monotonic()
                if now >= self._renew_at:
                    self._renew_at = now + self._renewal
                    self._renew()
                if now >= self._look_at:
                    self._look_at = now + _LOOK
                    self._look()
                while self._asked or self._due:
                    now = clock.monotonic()
                    if self.shared.is_away(now):
                        self._ask_nothing()
                    else:
                        await self._question(now)
        finally:
            await self._leave()

    def _look(self) -> None:
        for slots in list(self._slack):
            if slots.give_back():
                self._due[slots] = None
            if slots.settled:
                self._slack.discard(slots)

    def _renew(self) -> None:
        for slots in self._known.values():
            self._slack.add(slots)  # where the limit is gone, nobody says that a stream has ended
            if slots not in self._asked:
                slots.want = slots.held
                self._due[slots] = None

    async def _question(self, now: float) -> None:
        asked = list(islice(self._asked, _TOGETHER))
        for slots in asked:
            del self._asked[slots]
            self._due.pop(slots, None)
        due = list(islice(self._due, _TOGETHER - len(asked)))
        for slots in due:
            del self._due[slots]
        asked += due
        holds = [each.hold() for each in asked]
        answer, self._answer = self._answer, asyncio.Event()
        self.shared.metrics.asked.inc()
        try:
            granted = await self.shared.counter.hold(holds)
        except ConnectionError:
            self.shared.failed()
        else:
            self.shared.answered()
            until = now + self.shared.counter.held_for
            for slots, hold, number in zip(asked, holds, granted, strict=True):
                slots.granted(number, hold, now, until)
                if number:
                    self._slack.add(slots)
                elif slots not in self._asked and slots not in self._due:
                    self._known.pop(slots.name, None)
        finally:
            answer.set()

    def _ask_nothing(self) -> None:
        """Who waits counts alone; what is held is asked for again when it is time to."""
        self._asked.clear()
        self._due.clear()
        answer, self._answer = self._answer, asyncio.Event()
        answer.set()

    async def _leave(self) -> None:
        holds = [Hold(slots.name, 0, 0, slots.most) for slots in self._known.values()]
        try:
            while holds and not self.shared.is_away(self.shared.clock.monotonic()):
                await self.shared.counter.hold(holds[:_TOGETHER])
                del holds[:_TOGETHER]
        except ConnectionError:
            self.shared.failed()
