"""The installation of the matrix: real processes, with a chaos proxy on each hop of each device.

    client ──proxy──> gateway ──proxy, shared──> relay <──proxy── agent ──proxy──> service

Each place has a device with its own agent, service and proxies, so that cells run at the same time; on the hop between
gateway and relay a fault is laid on the connection of the place's stream alone. One more device, the bystander, is
asked for small things all the time: it must never notice anything. Waiting times are shortened to `TIMES`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests.faults.chaos import Address, ChaosProxy
from tests.faults.leaks import LeakCheck, gauges
from tests.faults.loads import LOADS, Clicks, Journey
from tests.faults.matrix import ANY, Cell, Expected, Hop, Load
from tests.faults.service import Service, service
from tests.stack.certificates import Certificate
from tests.stack.homeport import Agent, Api, Keys, Relay, agent, api, relay

__all__ = ["DEAD_AFTER", "Place", "Result", "Rig", "rig"]

DEAD_AFTER = 2.0
TIMES = {
    "RELAY": {
        "DEAD_AFTER": DEAD_AFTER,
        "PROBE_INTERVAL": 0.5,
        "STREAM_IDLE_TIMEOUT": 5.0,
        "HANDSHAKE_TIMEOUT": 4.0,
        "HEAD_TIMEOUT": 4.0,
        "DRAIN_GRACE": 1.0,
    },
    "API": {
        "STREAM_IDLE_TIMEOUT": 2.0,
        "SERVICE_TIMEOUT": 2.0,
        "OPEN_TIMEOUT": 2.0,
        "HEADER_TIMEOUT": 2.0,
        "KEEPALIVE_TIMEOUT": 4.0,
        "DRAIN_GRACE": 1.0,
    },
    "AGENT": {
        "RETRY_BASE": 0.1,
        "RETRY_MAXIMUM": 0.5,
        "CONNECT_TIMEOUT": 4.0,
        "DRAIN_GRACE": 1.0,
    },
}
"""Seconds, on a machine that has nothing else to do; see `_slowness`."""
BOUND = 30.0
"""Seconds after which silence is a hang. All times of the processes are far below."""
OWN_LINE_DEAD = 5.0
"""Seconds that a client waits whose own line is dead, which nobody can tell it: longer than the gateway does."""
SERVICE_LINE_DEAD = 2.0
"""The same for a service, after its client was told."""
_BUFFER = 64 * 1024
_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class Place:
    """A device on which one cell at a time runs."""

    name: str
    service: Service
    to_gateway: ChaosProxy
    to_relay: ChaosProxy
    to_service: ChaosProxy

    @property
    def proxies(self) -> tuple[ChaosProxy, ...]:
        """Those that are its own."""
        return self.to_gateway, self.to_relay, self.to_service


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a cell."""

    cell: Cell
    client: frozenset[str]
    """The words of the client; `ok` alone if there were no others."""
    service: frozenset[str]
    script: str
    seconds: float
    applied: bool
    journal: Sequence[str] = field(repr=False)

    def faults(self, expected: Expected) -> list[str]:
        """What is not as it must be."""
        faults = []
        for side, seen, allowed in (
            ("client", self.client, expected.client),
            ("service", self.service, expected.service),
        ):
            if not seen <= allowed and not (ANY in allowed and not seen & {"silent", "never again"}):
                faults.append(f"{side}: {', '.join(sorted(seen))}, and not {' or '.join(sorted(allowed))}")
        if not self.applied:
            faults.append("the fault had nothing to be laid on")
        return faults


class Bystander:
    """Small requests, one after the other, at a device that has no faults."""

    def __init__(self, journey: Journey, own: Service) -> None:
        self._journey = journey
        self._service = own
        self._running = asyncio.Event()
        self._rests = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self.requests = 0
        self.streak = 0
        """Requests that were answered well since the last that was not."""
        self.words: set[str] = set()

    async def _run(self) -> None:
        clicks = Clicks(self._journey)
        try:
            while True:
                if not self._running.is_set():
                    clicks.close()
                    self._rests.set()
                    await self._running.wait()
                    self._rests.clear()
                self.streak = self.streak + 1 if await clicks.click() == "ok" else 0
                self.requests += 1
                self.words |= clicks.words
        finally:
            clicks.close()

    def go_on(self) -> None:
        """Ask, until `rest`."""
        self._service.begin()
        self._running.set()

    async def rest(self) -> None:
        """Returns once the request under way is answered, and nothing is kept for the next."""
        self._running.clear()
        await self._rests.wait()
        self._service.flush()

    async def end(self) -> None:
        """For good."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@dataclass(slots=True, kw_only=True)
class Rig:
    """See the module; made by `rig`."""

    loop: asyncio.AbstractEventLoop
    keys: Keys
    relay: Relay
    api: Api
    agents: Sequence[Agent]
    to_internal: ChaosProxy
    places: Sequence[Place]
    bystander: Bystander
    leaks: LeakCheck
    seed: int
    slowness: float

    def run(self, what: Coroutine[Any, Any, _T], seconds: float = 150.0) -> _T:
        """Run it in the loop of clients and services."""
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(seconds)

    def batch(self, cells: Sequence[Cell]) -> list[Result]:
        """Run cells at the same time, one at each place."""
        assert len(cells) <= len(self.places)

        async def run() -> list[Result]:
            self.bystander.go_on()
            pairs = zip(cells, self.places, strict=False)
            results = await asyncio.gather(*(self._cell(cell, place) for cell, place in pairs))
            await self.bystander.rest()
            return results

        return self.run(run())

    def break_shared_hop(self, steps: str) -> frozenset[str]:
        """Lay a fault on all that is open between gateway and relay; returns what the bystander got meanwhile."""

        async def run() -> frozenset[str]:
            self.bystander.go_on()
            await self._until_served()
            self.to_internal.apply(steps)
            await self._until_served()
            self.to_internal.apply("both reset")  # what was stalled
            await self._until_served()
            await self.bystander.rest()
            words, self.bystander.words = self.bystander.words, set()
            return frozenset(words)

        return self.run(run())

    async def _until_served(self) -> None:
        self.bystander.streak = 0
        while self.bystander.streak < 10:
            await asyncio.sleep(0.01)

    def journey(
        self,
        address: Address,
        name: str,
        harmed: asyncio.Event,
        arrived: asyncio.Event | None = None,
        cell: Cell | None = None,
    ) -> Journey:
        """The way to a device, by default that of a client without faults."""
        home = f"{self.keys.team}/{name}"
        return Journey(
            address=address,
            web=f"/d/{home}/web-{name}",
            tcp=f"/t/{home}/tcp-{name}",
            authorization=f"Bearer {self.keys.admin_token}",
            quiet=self.quiet_of(cell),
            patience=self.patience_of(cell),
            harmed=harmed,
            arrived=asyncio.Event() if arrived is None else arrived,
        )

    def quiet_of(self, cell: Cell | None) -> float:
        """Seconds that `idle` is idle: in a tunnel, until an end that is dead must have been found."""
        breaks = cell is not None and cell.hop in _TUNNEL and not cell.fault.shapes
        return (DEAD_AFTER + 1.5) * self.slowness if breaks else 0.3

    def patience_of(self, cell: Cell | None) -> float:
        """Seconds that a client waits."""
        dead = cell is not None and cell.hop is Hop.CLIENT and cell.fault.stalls
        return OWN_LINE_DEAD * self.slowness if dead else BOUND

    async def _cell(self, cell: Cell, place: Place) -> Result:
        began = self.loop.time()
        place.service.begin()
        proxy = self.to_internal if cell.hop is Hop.GATEWAY else place.proxies[_PROXIES[cell.hop]]
        before, entries = len(proxy.connections()), len(proxy.journal())
        mark = 0 if cell.hop in _TUNNEL else before
        script = cell.script(self.seed)
        near, own = place.to_gateway, place.service
        if cell.hop in _TUNNEL and cell.fault.shapes:
            await self._dial_again(place, script)
        journey = self.journey((near.host, near.port), place.name, own.harmed, own.arrived, cell)
        place.to_service.target = {Load.TCP: own.tcp, Load.WEBSOCKET: own.websocket}.get(cell.load, own.web)
        load = self.loop.create_task(LOADS[cell.load](journey))
        harmed = await self._harm(cell, proxy, script, journey, load, place, mark)
        words = await load
        place.service.harmed.set()  # if it never came to that
        web = replace(journey, address=_address(self.api.gateway), patience=BOUND)
        place.to_service.target = own.web
        dead = cell.hop is Hop.SERVICE and cell.fault.stalls
        told = await self._told(place, patience=SERVICE_LINE_DEAD * self.slowness if dead else BOUND)
        if cell.hop in _TUNNEL and cell.fault.shapes:
            await self._dial_again(place, "")
        else:
            for number in harmed:
                proxy.apply(f"#{number} both reset")
        again = await Clicks(web).until_well(1)
        place.service.flush()
        await self._told(place)
        return Result(
            cell=cell,
            client=(words or frozenset({"ok"})) | (again & {"never again", "silent"}),
            service=told,
            script=script,
            seconds=self.loop.time() - began,
            applied=bool(harmed),
            journal=[str(entry) for entry in proxy.journal()[entries:]],
        )

    async def _harm(
        self,
        cell: Cell,
        proxy: ChaosProxy,
        script: str,
        journey: Journey,
        load: asyncio.Task[frozenset[str]],
        place: Place,
        mark: int,
    ) -> set[int]:
        """Lay the fault on the load's connections: on each as it comes, or on the first once it is under way."""
        harmed: set[int] = set()
        while not load.done():
            if journey.under_way.is_set() and cell.fault.shapes and cell.hop in _TUNNEL:
                harmed = {number for number, each in enumerate(proxy.connections(), 1) if each.open}
            elif cell.fault.shapes or journey.under_way.is_set():
                for number in self._connections(proxy, mark, place, cell):
                    if number not in harmed and (cell.fault.shapes or not harmed):
                        proxy.apply("; ".join(f"#{number} {step}" for step in script.split("; ")))
                        harmed.add(number)
            if journey.under_way.is_set() and harmed:
                journey.harmed.set()
                if not cell.fault.shapes:
                    break
            await asyncio.wait([load], timeout=0.005)
        return harmed

    def _connections(self, proxy: ChaosProxy, mark: int, place: Place, cell: Cell) -> Iterator[int]:
        for number, connection in enumerate(proxy.connections()[mark:], mark + 1):
            if connection.open and (cell.hop is not Hop.GATEWAY or f"-{place.name}\r\n".encode() in connection.head):
                yield number

    async def _told(self, place: Place, *, patience: float = BOUND) -> frozenset[str]:
        """The words of the service, once all visits have ended, or have had time for it."""
        place.service.flush()
        deadline = self.loop.time() + patience
        while any(visit.word is None for visit in place.service.visits) and self.loop.time() < deadline:
            await asyncio.sleep(0.01)
            place.service.flush()
        words = {visit.word or "silent" for visit in place.service.visits}
        if any(visit.wrong for visit in place.service.visits):
            words.add("wrong")
        return frozenset(words)

    async def _dial_again(self, place: Place, script: str) -> None:
        """A new tunnel on a line of that kind: its delay is measured when it opens, and windows grow by it."""
        place.to_relay.script = script
        place.to_relay.apply("both reset")
        web = self.journey(_address(self.api.gateway), place.name, asyncio.Event())
        await Clicks(web).until_well(1)
        await self._told(place)
        place.service.begin()


_TUNNEL = (Hop.TUNNEL, Hop.TUNNEL_TLS)
_PROXIES = {Hop.CLIENT: 0, Hop.TUNNEL: 1, Hop.TUNNEL_TLS: 1, Hop.SERVICE: 2}


def _address(url: str) -> Address:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _times(process: str, slowness: float) -> Mapping[str, str]:
    return {f"HOMEPORT_{name}": f"{value * slowness:.3f}s" for name, value in TIMES[process].items()}


def _slowness() -> float:
    """By how much all times are longer because others use the machine: 1 when it is quiet, 4 at most.

    Times of a second or two hold for processes that get their turn at once. Where ten others want each core, an upload
    that goes on well misses them, and the table would be wrong about it.
    """
    return min(max(os.getloadavg()[0] / (2 * (os.cpu_count() or 1)), 1.0), 4.0)


@contextmanager
def rig(folder: Path, *, places: int, certificate: Certificate | None = None, seed: int = 0) -> Iterator[Rig]:
    """Start it.

    Args:
        folder: for files and logs.
        places: how many cells can run at the same time.
        certificate: of the relay's tunnel port; with it, tunnels are under TLS.
        seed: of everything random.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys, slowness = Keys.make(folder), _slowness()
    with ExitStack() as stack:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="clients and services", daemon=True)
        thread.start()

        def run(what: Coroutine[Any, Any, _T]) -> _T:
            return asyncio.run_coroutine_threadsafe(what, loop).result(60)

        def stop() -> None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(30)
            loop.close()

        stack.callback(stop)
        services = AsyncExitStack()
        stack.callback(lambda: run(services.aclose()))

        def proxy(target: Address, name: str) -> ChaosProxy:
            return stack.enter_context(ChaosProxy(target, seed=seed, name=name, socket_buffer=_BUFFER))

        relaying = stack.enter_context(
            relay(folder, keys, certificate=certificate, environment=_times("RELAY", slowness))
        )
        to_internal = proxy(_address(relaying.internal), "gateway-relay")
        behind = Relay(relaying.process, relaying.tunnel, f"http://{to_internal.address}")
        # One connection to the database, so that its threads are no leak.
        settings = {**_times("API", slowness), "HOMEPORT_DATABASE_POOL_SIZE": "1"}
        serving = stack.enter_context(api(folder, keys, behind, environment=settings))
        made: list[Place] = []
        starting = []
        tunnel = _address(relaying.tunnel)
        for number in range(places + 1):
            name = f"place{number}" if number < places else "bystander"
            own = run(services.enter_async_context(service()))
            tcp = web = "{}:{}".format(*own.web)
            url = relaying.tunnel
            if number < places:
                place = Place(
                    name=name,
                    service=own,
                    to_gateway=proxy(_address(serving.gateway), f"client-gateway {name}"),
                    to_relay=proxy(tunnel, f"relay-agent {name}"),
                    to_service=proxy(own.web, f"agent-service {name}"),
                )
                made.append(place)
                tcp = web = place.to_service.address
                url = url.replace(f":{tunnel[1]}", f":{place.to_relay.port}")
            starting.append(
                agent(
                    folder,
                    keys,
                    Relay(relaying.process, url, relaying.internal),
                    device=name,
                    services={f"web-{name}": f"http://{web}?health=off", f"tcp-{name}": f"tcp://{tcp}?health=off"},
                    certificate=certificate,
                    environment=_times("AGENT", slowness),
                )
            )
        keys.session_token("first")  # msgspec looks at a type when it first meets it, and crashes if two threads do
        with ThreadPoolExecutor(4) as pool:
            agents = [running.result() for running in [pool.submit(stack.enter_context, each) for each in starting]]
        check = LeakCheck(
            {
                "relay": relaying.process.pid,
                "api": serving.process.pid,
                **{each.process.name: each.process.pid for each in agents},
            },
            {
                "relay": lambda: gauges(f"{relaying.internal}/metrics", _internal_key(keys)),
                "api": lambda: gauges(f"{serving.api}/metrics", keys.admin_token),
            },
            explained=partial(_control, to_internal),
        )
        running = Rig(
            loop=loop,
            keys=keys,
            relay=relaying,
            api=serving,
            agents=agents,
            to_internal=to_internal,
            places=made,
            bystander=None,  # type: ignore[arg-type]
            leaks=check,
            seed=seed,
            slowness=slowness,
        )

        async def watch() -> Bystander:
            return Bystander(running.journey(_address(serving.gateway), "bystander", asyncio.Event()), own)

        running.bystander = run(watch())
        stack.callback(lambda: run(running.bystander.end()))
        yield running


def _control(to_internal: ChaosProxy) -> Mapping[str, int]:
    """What gateway and relay have open for talks of their own: event feed and keep-alive connections, never streams."""
    talks = sum(each.open and b"Upgrade: homeport-stream" not in each.head for each in to_internal.connections())
    return dict.fromkeys(("api.descriptors", "relay.descriptors", "relay.tasks"), talks)


def _internal_key(keys: Keys) -> str:
    return keys.internal_key_file.read_text().strip()
