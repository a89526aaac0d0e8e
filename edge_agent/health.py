"""Whether the local services answer, and telling the relay when that changes.

One failed check is not an outage, and one good one may be luck, so a service changes its state only after several in a
row; the first check of all decides at once. The state is told, never enforced: a stream to an unhealthy service is
still tried, since the check may be what is wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import trio

from common.ids import ServiceName
from common.logging import Logger
from common.wire import messages
from common.wire.messages import Health
from edge_agent.checks import Check
from edge_agent.errors import TargetError
from edge_agent.services import Service, ServiceList

__all__ = ["HealthMonitor", "HealthState"]

_JITTER = 0.1
"""Share of the interval by which a check may come early, so that the services of a device, and the devices of a
fleet that were started together, do not keep step."""


class HealthState:
    """The health of one service.

    Args:
        fall: checks in a row that must fail before a healthy service counts as unhealthy.
        rise: checks in a row that must succeed before an unhealthy one counts as healthy.
    """

    __slots__ = ("_against", "_fall", "_rise", "health")

    def __init__(self, *, fall: int, rise: int) -> None:
        self._fall = fall
        self._rise = rise
        self._against = 0
        self.health = Health.UNKNOWN

    def record(self, *, well: bool) -> bool:
        """Count one check; True if the health changed with it."""
        found = Health.HEALTHY if well else Health.UNHEALTHY
        if found is self.health:
            self._against = 0
            return False
        self._against += 1
        if self.health is not Health.UNKNOWN and self._against < (self._rise if well else self._fall):
            return False
        self._against = 0
        self.health = found
        return True


class HealthMonitor:
    """Checks every service that has a check.

    Args:
        services: the list.
        interval: seconds between the end of a check and the next of the same service.
        timeout: seconds for each of connecting and answering.
        fall, rise: see `HealthState`.
        on_change: called with the whole list, as the relay is told it, after each change.
        logger: told of each change.
        rng: source of the jitter.
    """

    def __init__(
        self,
        services: ServiceList,
        *,
        interval: float,
        timeout: float,
        fall: int,
        rise: int,
        on_change: Callable[[Sequence[messages.Service]], None],
        logger: Logger,
        rng: random.Random | None = None,
    ) -> None:
        self._services = services
        self._interval = interval
        self._timeout = timeout
        self._states = {name: HealthState(fall=fall, rise=rise) for name in services}
        self._on_change = on_change
        self._logger = logger
        self._rng = rng if rng is not None else random.SystemRandom()

    async def run(self) -> None:
        """Check for ever."""
        async with trio.open_nursery() as nursery:
            for service in self._services.values():
                if service.check is not None:
                    nursery.start_soon(self._watch, service, service.check)

    def report(self) -> list[messages.Service]:
        """The services and their health, as the relay is told it."""
        return [
            messages.Service(name=service.name, kind=service.kind, health=self._states[name].health)
            for name, service in self._services.items()
        ]

    def health(self, name: ServiceName) -> Health:
        """The health of one service."""
        return self._states[name].health

    async def _watch(self, service: Service, check: Check) -> None:
        while True:
            await self._look(service, check)
            await trio.sleep(self._interval * self._rng.uniform(1 - _JITTER, 1))

    async def _look(self, service: Service, check: Check) -> None:
        detail = ""
        try:
            await check.probe(service.target, self._timeout)
        except TargetError as exc:
            detail = exc.detail
        state = self._states[service.name]
        if not state.record(well=not detail):
            return
        if detail:
            self._logger.warning("service unhealthy", service=service.name, detail=detail)
        else:
            self._logger.info("service healthy", service=service.name)
        self._on_change(self.report())
