"""Decides by the limits that hold: without waiting where that is possible.

    subjects(...)            the meters of those who take part in a request, of those that are limited at all
    request(meters)          one request more to the REST API: passes, raises, or is PENDING until `wait_request`
    begin(meters)            one request more through the gateway, which is a stream under way, too, until `end`:
                             the same, and `wait_begin`
    wait_open(meters)        a stream is about to be opened

When a limit refuses, what the others have already counted of the request is given back: a refused request uses up
nothing. The limits are read from `Book`; a change is in effect for the next request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from api_server.limits.errors import LimitsUnavailableError, QuotaExceededError, TooManyOpensError, TooManyStreamsError
from api_server.limits.headers import Standing
from api_server.limits.meters import Meter, MeterParts, MeterTable, Quota
from api_server.limits.metrics import LimitMetrics
from api_server.limits.parts import LocalParts, SharedParts
from api_server.limits.records import Defaults, Limits, SubjectKind, merge
from api_server.limits.shared import SharedCounter
from api_server.limits.slots import SlotKeeper
from api_server.limits.valkey_counter import Counter
from common.clock import Clock
from common.errors import HomeportError
from common.guesses import subscriber
from common.ids import TeamId

__all__ = ["Book", "Limiter", "key_of"]

Book = Mapping[tuple[SubjectKind, str], Limits]
"""Own limits of subjects, by kind and key."""

_RETRY: Final = 1.0
"""Seconds after which a stream may have ended."""

_TOLD: Final = 60.0
"""Seconds for which nobody is told again that a limit refuses."""

_NOTHING: Final = Limits()

# A member of an enum is found by a descriptor, which costs more than a look into the module.
_TEAM, _TOKEN, _ROUTE, _ADDRESS, _DEVICE = SubjectKind


class Limiter:
    """The limits of this process.

    Args:
        clock: monotonic.
        metrics: what is counted.
        counter: counts for all processes; None when each process counts for itself.
    """

    def __init__(self, clock: Clock, metrics: LimitMetrics, counter: Counter | None = None) -> None:
        self._clock = clock
        self._metrics = metrics
        self._counter = counter
        self._keeper: SlotKeeper | None = None
        self._parts: MeterParts = LocalParts(clock.monotonic)
        if counter is not None:
            shared = SharedCounter(counter, clock, metrics, self._spawn)
            self._keeper = SlotKeeper(shared)
            self._parts = SharedParts(shared, self._keeper)
        self._tables = {kind: MeterTable() for kind in SubjectKind}
        self._defaults = dict.fromkeys(SubjectKind, _NOTHING)
        self._own: Book = {}
        self._limited: frozenset[SubjectKind] = frozenset()
        self._tasks: asyncio.TaskGroup | None = None
        self._on_reached: Callable[[TeamId, str, str, str], None] | None = None
        self.idle = True
        """Nothing is limited at all: nobody needs to ask."""

    def __repr__(self) -> str:
        kept = ", ".join(f"{len(table)} {kind}" for kind, table in self._tables.items() if len(table))
        return f"<Limiter: {'no limits' if self.idle else ', '.join(sorted(self._limited))}; {kept or 'no'} meters>"

    async def run(self) -> None:
        """Ask the shared counter for what is taken ahead of it, until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                if self._keeper is not None:
                    await self._keeper.run()
                await asyncio.get_running_loop().create_future()
        finally:
            self._tasks = None
            if self._counter is not None:
                await self._counter.aclose()

    def on_reached(self, callback: Callable[[TeamId, str, str, str], None]) -> None:
        """Call `callback` when a limit of a team begins to refuse, at most once a minute for each: with the team, the
        kind and id of the subject, and what is limited.
        """
        self._on_reached = callback

    def apply(self, defaults: Defaults, own: Book) -> None:
        """From now on these limits hold."""
        self._defaults = {kind: getattr(defaults, kind.value) for kind in SubjectKind}
        self._own = own
        self._limited = frozenset(
            kind for kind in SubjectKind if self._defaults[kind] != _NOTHING or any(each is kind for each, _ in own)
        )
        self.idle = not self._limited
        for kind, table in self._tables.items():
            for meter in table.each():
                meter.apply(self.effective(kind, meter.key), self._parts)

    def effective(self, kind: SubjectKind, key: str) -> Limits:
        """What holds for a subject."""
        return merge(self._own.get((kind, key)), self._defaults[kind])

    def subjects(
        self, *, team: str | None, token: str | None, route: str | None, address: str, device: str | None
    ) -> list[Meter]:
        """The meters of those who take part in a request, the narrowest first; only of kinds that are limited.

        Args:
            team: whose services are called; None for none.
            token: id of the identity.
            route: id of the route; None for one that is built in.
            address: of the client.
            device: id or name of the device; None when it is not chosen yet.
        """
        limited = self._limited
        found = []
        if _ADDRESS in limited and address:
            found.append(self._meter(_ADDRESS, subscriber(address)))
        if _TOKEN in limited and token is not None:
            found.append(self._meter(_TOKEN, key_of(team, token)))
        if _DEVICE in limited and device is not None:
            found.append(self._meter(_DEVICE, key_of(team, device)))
        if _ROUTE in limited and route is not None:
            found.append(self._meter(_ROUTE, key_of(team, route)))
        if _TEAM in limited and team is not None:
            found.append(self._meter(_TEAM, team))
        return found

    def of_device(self, team: str | None, device: str) -> list[Meter]:
        """The meter of a device that was chosen after its request was let in, if devices are limited."""
        return [self._meter(_DEVICE, key_of(team, device))] if _DEVICE in self._limited else []

    def has_room(self, team: TeamId, device: str) -> bool:
        """Whether no limit of a device is known to refuse one request more; nothing is counted."""
        if _DEVICE not in self._limited:
            return True
        now = self._clock.monotonic()
        for meter in self.of_device(team, device):
            if meter.slots is not None and meter.slots.free(now) is False:
                return False
            if meter.requests is not None and meter.requests.refuses(now):
                return False
        return True

    async def opening(self, team: TeamId, device: str) -> HomeportError | None:
        """A stream is about to be opened to a device that was chosen; what its limit says against it."""
        try:
            await self.wait_open(self.of_device(team, device))
        except TooManyOpensError as exc:
            return exc
        return None

    def request(self, meters: Sequence[Meter], *, api: bool = False) -> bool:
        """One request more. True when it passes; False when only `wait_request` can tell, and nothing was counted.

        Raises:
            LimitsUnavailableError: the shared counter is away, and a limit fails closed.
            QuotaExceededError: a quota is used up.
        """
        now = self._clock.monotonic()
        taken: list[Quota] = []
        try:
            for meter in meters:
                quota = meter.api if api else meter.requests
                if quota is None:
                    continue
                passes = quota.take(now)
                if passes is None:
                    _give_back(taken)
                    return False
                if not passes:
                    raise self._exceeded(meter, quota, now)
                taken.append(quota)
        except (QuotaExceededError, LimitsUnavailableError):
            _give_back(taken)
            raise
        return True

    async def wait_request(self, meters: Sequence[Meter], *, api: bool = False) -> None:
        """The same, and wait for the shared counter if need be.

        Raises:
            LimitsUnavailableError, QuotaExceededError: see `request`.
        """
        taken: list[Quota] = []
        try:
            for meter in meters:
                quota = meter.api if api else meter.requests
                if quota is None:
                    continue
                if not await quota.wait_take():
                    raise self._exceeded(meter, quota, self._clock.monotonic())
                taken.append(quota)
        except (QuotaExceededError, LimitsUnavailableError):
            _give_back(taken)
            raise

    def standings(self, meters: Sequence[Meter], *, api: bool = False) -> list[Standing]:
        """How the subjects of a request stand with their quotas."""
        now = self._clock.monotonic()
        found = []
        for meter in meters:
            quota = meter.api if api else meter.requests
            if quota is not None:
                rate = quota.rate
                found.append(Standing(meter.kind.value, rate.quota, rate.window, quota.remaining(now), quota.wait(now)))
        return found

    def begin(self, meters: Sequence[Meter]) -> bool:
        """One request more through the gateway; `end` it. True when it passes; False when only `wait_begin` can tell,
        and nothing was counted.

        Raises:
            LimitsUnavailableError, QuotaExceededError: see `request`.
            TooManyStreamsError: as many are under way as may.
        """
        if not self.request(meters):
            return False
        try:
            free = self._has_slots(meters)
        except TooManyStreamsError:
            _give_back_requests(meters)
            raise
        if not free:
            _give_back_requests(meters)
            return False
        for meter in meters:
            meter.streams += 1
        return True

    async def wait_begin(self, meters: Sequence[Meter]) -> None:
        """The same, and wait for the shared counter if need be.

        Raises:
            LimitsUnavailableError, QuotaExceededError, TooManyStreamsError: see `begin`.
        """
        await self.wait_request(meters)
        try:
            while not self._has_slots(meters):
                for meter in meters:
                    if meter.slots is not None:
                        await meter.slots.wait_free()
        except BaseException:  # who does not wait any more has not begun, either
            _give_back_requests(meters)
            raise
        for meter in meters:
            meter.streams += 1

    def end(self, meters: Sequence[Meter]) -> None:
        """A request that had begun is over."""
        for meter in meters:
            meter.streams -= 1
            if meter.slots is not None:
                meter.slots.ended()

    async def wait_open(self, meters: Sequence[Meter]) -> None:
        """A stream is about to be opened.

        Raises:
            TooManyOpensError: too soon after the others.
        """
        taken: list[Quota] = []
        for meter in meters:
            opens = meter.opens
            if opens is None:
                continue
            if not await opens.wait_take():
                _give_back(taken)
                self._refused(meter, "opens_per_second")
                raise TooManyOpensError(
                    f"the {meter.kind} may open {opens.rate.quota} streams a second",
                    retry_after=opens.wait(self._clock.monotonic()),
                )
            taken.append(opens)

    def _has_slots(self, meters: Sequence[Meter]) -> bool:
        now = self._clock.monotonic()
        pending = False
        for meter in meters:
            if meter.slots is None:
                continue
            free = meter.slots.free(now)
            if free is None:
                pending = True
            elif not free:
                self._refused(meter, "streams")
                raise TooManyStreamsError(
                    f"the {meter.kind} may have {meter.slots.most} requests and connections under way at a time",
                    retry_after=_RETRY,
                )
        return not pending

    def _meter(self, kind: SubjectKind, key: str) -> Meter:
        table = self._tables[kind]
        meter = table.find(key)
        if meter is None:
            meter = table.add(Meter(kind, key, self.effective(kind, key), self._parts))
        return meter

    def _exceeded(self, meter: Meter, quota: Quota, now: float) -> QuotaExceededError:
        self._refused(meter, "requests")
        rate = quota.rate
        return QuotaExceededError(meter.kind, rate.quota, rate.window, retry_after=quota.wait(now))

    def _refused(self, meter: Meter, limit: str) -> None:
        self._metrics.refused.labels(meter.kind.value, limit).inc()
        now = self._clock.monotonic()
        if self._on_reached is None or meter.kind is _ADDRESS or now - meter.told_at < _TOLD:
            return
        meter.told_at = now
        team, _, subject = meter.key.partition("/")
        if team:
            self._on_reached(TeamId(team), meter.kind.value, subject or team, limit)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._tasks is not None, "run() is not running"
        return self._tasks.create_task(coroutine)


def key_of(team: str | None, subject: str) -> str:
    """The key of a token, route or device: within its team, so that no team can set limits for another's."""
    return f"{team or ''}/{subject}"


def _give_back_requests(meters: Sequence[Meter]) -> None:
    _give_back([meter.requests for meter in meters if meter.requests is not None])


def _give_back(taken: Sequence[Quota]) -> None:
    for quota in taken:
        quota.give_back()
