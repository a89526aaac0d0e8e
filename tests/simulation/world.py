"""Runs a scenario, and holds it against what was promised."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

# trio shuffles the tasks that are ready. Its plugin for hypothesis, which is loaded with it, puts them into a fixed
# order first, so that a run depends on this generator alone.
from trio._core._run import _r as scheduler_rng

from remote_proxy.revocations import RevocationKey, RevocationKind
from remote_proxy.tunnels.session import LiveTunnel
from tests.simulation.client import Client, Kind, Outcome, Request
from tests.simulation.device import SimulatedDevice
from tests.simulation.installation import TEAM, Installation, credential_id
from tests.simulation.network import Connection, Direction, Network, Pipe, Quality, Site
from tests.simulation.oracles import (
    DEAD_AFTER,
    Disturbances,
    back_within,
    silence_of_ends,
    silence_of_sessions,
    what_is_wrong,
)
from tests.simulation.relay import SimulatedRelay
from tests.simulation.scenario import DeviceFault, FaultKind, RelayFault, RelayFaultKind, Scenario
from tests.simulation.trace import Trace

__all__ = ["Result", "simulate"]

CROWD = 50
"""Requests of one device at a time that are taken for many."""

SLOW_LINE = Quality(delay=2.0, jitter=0.2, bandwidth=64e3, segment=1400, send_buffer=64 * 1024)


@dataclass
class Result:
    """What came of a run."""

    scenario: Scenario
    violations: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)
    seen: Counter[str] = field(default_factory=Counter)
    """What was reached, how often: faults that struck, ends of tunnels, budgets that had no room."""

    def report(self) -> str:
        """All of it, for a reader who wants to know why."""
        return "\n".join([*self.trace.lines, "", str(self.scenario), "", *self.violations])


def simulate(scenario: Scenario, installation: Installation) -> Result:
    """Run a scenario to its end."""
    result = Result(scenario)
    scheduler_rng.seed(scenario.seed)
    with _logged_errors(result.violations):
        trio.run(_World(result, installation).run, clock=trio.testing.MockClock(autojump_threshold=0))
    return result


class _World:
    def __init__(self, result: Result, installation: Installation) -> None:
        self._result = result
        self._scenario = result.scenario
        self._trace = result.trace
        self._installation = installation
        self._rng = random.Random(f"clients {self._scenario.seed}")
        self._secure = frozenset(plan.name for plan in self._scenario.devices if plan.secure)
        self._relays: list[SimulatedRelay] = []  # the newest last
        self._revoked: list[RevocationKey] = []
        self._under_way: dict[int, set[Client]] = {number: set() for number in range(len(self._scenario.devices))}
        self._disturbances = [Disturbances(plan) for plan in self._scenario.devices]
        self._faults_are_over = False
        self._watching = True
        self._network: Network
        self._devices: list[SimulatedDevice]
        self._nursery: trio.Nursery

    async def run(self) -> None:
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as self._nursery:
            self._network = Network(self._nursery)
            self._devices = [self._make_device(number) for number in range(len(self._scenario.devices))]
            await self._start_relay()
            for device in self._devices:
                device.start()
            self._nursery.start_soon(self._watch)
            async with trio.open_nursery() as acts:
                for fault in self._scenario.relay_faults:
                    acts.start_soon(self._befall_relay, fault)
                for number, plan in enumerate(self._scenario.devices):
                    for device_fault in plan.faults:
                        acts.start_soon(self._befall_device, number, device_fault)
                for request in self._scenario.requests:
                    acts.start_soon(self._request, request)
            self._faults_are_over = True
            await self._all_back()
            await self._after()
            self._watching = False
            await self._end()
        if (left := trio.lowlevel.current_statistics().tasks_living - tasks) > 0:
            self._violated(f"{left} tasks are left")

    def _make_device(self, number: int) -> SimulatedDevice:
        plan = self._scenario.devices[number]
        seed = f"{self._scenario.seed} {plan.name}"
        site = Site(plan.name, {Direction.UP: plan.up, Direction.DOWN: plan.down}, f"site {seed}")

        def arm(connection: Connection) -> None:
            self._trace.add(plan.name, "connection", number=connection.number)
            for fault in plan.faults:
                if fault.connection == connection.number:
                    self._arm(connection, fault)

        site.on_connection = arm
        return SimulatedDevice(
            number,
            site,
            self._network,
            self._installation,
            self._trace,
            nursery=self._nursery,
            seen=self._result.seen,
            budget=self._scenario.budget,
            secure=plan.secure,
            retry_maximum=plan.retry_maximum,
            max_streams=plan.max_streams,
            seed=f"agent {seed}",
        )

    async def _start_relay(self) -> None:
        relay = SimulatedRelay(
            f"relay-{len(self._relays)}",
            self._installation,
            self._trace,
            secure=self._secure,
            budget=self._scenario.budget,
            revoked=self._revoked,
            seen=self._result.seen,
        )
        self._relays.append(relay)
        await self._nursery.start(relay.run)
        self._network.accept = relay.accept

    # Requests.

    async def _request(self, request: Request) -> None:
        await trio.sleep(request.at)
        client = Client(request, self._rng)
        under_way = self._under_way[request.device]
        under_way.add(client)
        outcome = await client.run(lambda: self._find(request.device))
        under_way.remove(client)
        self._result.outcomes.append(outcome)
        self._result.seen[f"{request.kind} {'as it should' if outcome.ok else 'failed'}"] += 1
        self._trace.add(
            f"client {request.number}",
            outcome.code,
            device=request.device,
            kind=request.kind,
            size=request.size,
            began=round(outcome.started, 5),
        )
        if len(under_way) >= CROWD and outcome.opened:
            self._result.seen["crowd"] += 1
        if wrong := what_is_wrong(outcome, self._disturbances[request.device]):
            self._violated(f"request {request}: {wrong}")

    def _find(self, number: int) -> LiveTunnel | None:
        for relay in reversed(self._relays):
            if (tunnel := relay.find(self._devices[number].id)) is not None:
                return tunnel
        return None

    # Faults.

    async def _befall_device(self, number: int, fault: DeviceFault) -> None:
        if fault.connection:
            return  # comes with that connection
        await trio.sleep(fault.at)
        device = self._devices[number]
        site = device.site
        self._trace.add("fault", fault.kind, device=device.name)
        self._result.seen[f"fault {fault.kind}"] += 1
        window = None if fault.planted else self._disturbances[number].began(fault.kind)
        match fault.kind:
            case FaultKind.STALL:
                self._result.seen[f"fault {fault.kind} {fault.direction}"] += 1
                await self._stall(site, [fault.direction], fault.duration)
            case FaultKind.DEAD_LINE:
                await self._stall(site, list(Direction), fault.duration)
            case FaultKind.RESET:
                for connection in list(site.connections):
                    connection.reset()
            case FaultKind.HALF_CLOSE:
                for connection in list(site.connections):
                    connection.pipes[fault.direction].half_close()
            case FaultKind.SLOW_LINE:
                before = {direction: way.quality for direction, way in site.ways.items()}
                for way in site.ways.values():
                    way.quality = SLOW_LINE
                await trio.sleep(fault.duration)
                for direction, way in site.ways.items():
                    if way.quality is SLOW_LINE:
                        way.quality = before[direction]
            case FaultKind.POWER:
                old = list(site.connections)
                if device.powered:
                    await device.lose_power()
                    await trio.sleep(fault.duration)
                    device.powered = True
                    device.start()
                    if fault.told:
                        for connection in old:
                            connection.device_is_back()
            case FaultKind.RESTART:
                if device.agent is not None:
                    await device.stop()
                    await trio.sleep(fault.duration)
                    device.start()
            case FaultKind.REVOKE:
                await self._revoke(device)
                await trio.sleep(fault.duration)
                await device.stop()
                device.renew()
                device.start()
        if window is not None:
            self._disturbances[number].ended(window)

    async def _revoke(self, device: SimulatedDevice) -> None:
        """Its tunnels are over within the call, and its streams a second later."""
        key = RevocationKey(RevocationKind.CREDENTIAL, TEAM, credential_id(device.number, device.credential))
        device.revoked = True
        self._revoked.append(key)
        open_ones = [client for client in self._under_way[device.number] if client.open]
        for relay in self._relays:
            relay.revoke(key)
        self._violated(*self._revoked_but_live())
        await trio.sleep(1.0)
        for client in open_ones:
            if client.open:
                self._violated(f"a stream of {device.name} goes on after its credential was revoked: {client!r}")
        self._result.seen["streams ended by a revocation"] += len(open_ones)

    def _revoked_but_live(self) -> Iterator[str]:
        for relay in self._relays:
            for tunnel in relay.store:
                if set(tunnel.revocation_keys) & set(self._revoked):
                    yield f"{relay.name} has a session of a credential that was revoked: {tunnel!r}"

    async def _stall(self, site: Site, directions: list[Direction], duration: float) -> None:
        for direction in directions:
            site.ways[direction].stall()
        await trio.sleep(duration)
        for direction in directions:
            site.ways[direction].heal()

    def _arm(self, connection: Connection, fault: DeviceFault) -> None:
        number = next(n for n, device in enumerate(self._devices) if device.site is connection.site)

        def act(pipe: Pipe) -> None:
            if self._faults_are_over:
                return
            self._trace.add("fault", fault.kind, connection=connection.name, offset=fault.offset)
            self._result.seen[f"fault {fault.kind} {fault.direction} at a byte"] += 1
            window = self._disturbances[number].began(fault.kind)
            match fault.kind:
                case FaultKind.CORRUPT:
                    pipe.corrupt_next(fault.mask)
                case FaultKind.RESET:
                    connection.reset()
                case FaultKind.HALF_CLOSE:
                    pipe.half_close()
                case _:
                    self._nursery.start_soon(self._stall, connection.site, [fault.direction], fault.duration)
            self._disturbances[number].ended(window, fault.duration if fault.kind is FaultKind.STALL else 0.0)

        connection.pipes[fault.direction].at(fault.offset, act)

    async def _befall_relay(self, fault: RelayFault) -> None:
        await trio.sleep(fault.at)
        self._trace.add("fault", fault.kind)
        self._result.seen[f"relay fault {fault.kind}"] += 1
        windows = [disturbances.began(fault.kind, fault.duration) for disturbances in self._disturbances]
        relay = self._relays[-1]
        match fault.kind:
            case RelayFaultKind.KILL:
                self._network.accept = None
                relay.kill()
                await trio.sleep(fault.duration)
                await self._start_relay()
            case RelayFaultKind.POWER:
                self._network.dark = True
                relay.lose_power()
                await trio.sleep(fault.duration)
                self._network.dark = False
                await self._start_relay()
            case RelayFaultKind.DRAIN:
                await self._start_relay()
                await relay.drain(fault.duration)
        for disturbances, window in zip(self._disturbances, windows, strict=True):
            disturbances.ended(window)

    # What must hold.

    async def _watch(self) -> None:
        """Look, again and again, at what must hold at any moment."""
        while self._watching:
            await trio.sleep(0.5)
            for relay in self._relays:
                self._violated(*silence_of_sessions(relay))
            self._violated(*self._revoked_but_live())
            for device in self._devices:
                self._violated(*silence_of_ends(device.site))

    async def _all_back(self) -> None:
        """After the last fault, every device is in service again within the bound of its back-off."""
        async with trio.open_nursery() as nursery:
            for number in range(len(self._devices)):
                nursery.start_soon(self._back, number)

    async def _back(self, number: int) -> None:
        device = self._devices[number]
        deadline = max(
            self._disturbances[number].last + back_within(self._scenario.devices[number]), trio.current_time() + 15.0
        )
        while True:
            outcome = await Client(self._probe(number, 10), self._rng).run(lambda: self._find(number))
            if outcome.ok:
                self._trace.add(device.name, "back")
                return
            if trio.current_time() > deadline:
                self._violated(f"{device.name} is not back: {outcome.code}, {device.agent!r}")
                return
            await trio.sleep(0.5)

    async def _after(self) -> None:
        """Everything works as on the first day, and then nothing is left."""
        for number, device in enumerate(self._devices):
            outcome = await Client(self._probe(number, 100_000), self._rng).run(lambda n=number: self._find(n))
            if not outcome.ok or outcome.wrong:
                self._violated(f"{device.name} does not serve when all is over: {outcome.code} {outcome.wrong}")
        await trio.sleep(DEAD_AFTER + 5.0)
        for device in self._devices:
            tunnel = self._find(device.number)
            corrupted = self._disturbances[device.number].corrupted
            if tunnel is None:
                self._violated(f"{device.name} has no session in the end")
            elif tunnel.describe().streams and not corrupted:
                self._violated(f"{device.name} has {tunnel.describe().streams} streams in the end")
            if device.agent is not None and device.agent.statistics().streams.streams and not corrupted:
                self._violated(f"{device.name}'s agent has streams in the end: {device.agent.statistics()}")
        corrupted = any(disturbances.corrupted for disturbances in self._disturbances)
        for relay in self._relays:
            if relay.budget.used and not corrupted:
                self._violated(f"{relay.name} holds {relay.budget!r} without a stream")

    def _probe(self, number: int, size: int) -> Request:
        return Request(number=-1, device=number, at=0.0, kind=Kind.ECHO, start=number * 1000, size=size)

    async def _end(self) -> None:
        """Stop everything in order; nothing is left of it."""
        async with trio.open_nursery() as nursery:
            for device in self._devices:
                nursery.start_soon(device.stop)
        for device in self._devices:
            if device.exit_code != 0:
                self._violated(f"{device.name} ended with code {device.exit_code}")
            self._violated(*device.failures, *device.left_over)
        await trio.sleep(DEAD_AFTER)
        for relay in self._relays:
            self._violated(*relay.false_deaths)
            if len(relay.store) or len(relay.live):
                self._violated(f"{relay.name} still has {relay.store!r}, {len(relay.live)} live")
            if relay.budget.used or relay.budget.holders:
                self._violated(f"{relay.name} still holds {relay.budget!r}")
            relay.kill()
        for device in self._devices:
            if device.site.connections:
                self._violated(f"{device.name} still has {len(device.site.connections)} connections")
        self._nursery.cancel_scope.cancel()

    def _violated(self, *violations: str) -> None:
        for violation in violations:
            text = f"at {trio.current_time():.2f} s: {violation}"
            self._trace.add("VIOLATION", violation)
            self._result.violations.append(text)


class _Listener(logging.Handler):
    def __init__(self, violations: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._violations = violations

    def emit(self, record: logging.LogRecord) -> None:
        self._violations.append(f"logged: {self.format(record)}")


@contextmanager
def _logged_errors(violations: list[str]) -> Iterator[None]:
    """What the tunnels log as an error, such as a callback that raised, must not happen."""
    listener = _Listener(violations)
    logger = logging.getLogger("homeport")
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
