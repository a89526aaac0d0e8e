"""Whether the devices that a route shares are well, found out by asking their service.

    a device that is not connected       is not asked, and nothing is thought of it
    the relay, or the credential, away   says nothing about a device either
    no answer, or a status of 400 up     unwell, from the `threshold`th in a row
    any other answer                     well, likewise; the first of all decides at once

Each gateway asks for itself: what it can reach is what counts for its requests. The question shows the credential that
requests of the route show, so that a service that wants one is not taken for unwell.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from api_server.gateway.targets import UpstreamCredential
from api_server.relay.dialer import ServiceDialer
from api_server.routing.records import HealthCheck
from common.errors import HomeportError
from common.ids import ServiceName, TeamId
from common.logging import Logger, get_logger
from common.sessions.errors import DeviceOfflineError, DrainingError, RelayUnavailableError, SessionStoreError
from common.sessions.interfaces import OpenOptions
from common.tunnel.stream import Buffer

__all__ = ["HealthChecks", "Probe", "RouteHealth", "ServiceProbe"]

_AT_ONCE: Final = 32
"""Questions under way at a time, of one gateway."""

_TIMEOUT: Final = 5.0
"""Seconds for an answer, or the interval if that is shorter."""

_LOOK: Final = 1.0
"""Seconds after which it is looked what is due, at the latest."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")

_MAX_START: Final = 64
"""Bytes in which the status must have come."""


class RouteHealth:
    """What is thought of the devices of one route. Implements `Usable`.

    Args:
        team: whose they are.
        service: that is asked.
        check: how.
        credential: what is shown; None for nothing.
    """

    __slots__ = ("_against", "_due", "_well", "check", "credential", "devices", "service", "team")

    def __init__(
        self, team: TeamId, service: ServiceName, check: HealthCheck, credential: UpstreamCredential | None
    ) -> None:
        self.team = team
        self.service = service
        self.check = check
        self.credential = credential
        self.devices: tuple[str, ...] = ()
        self._well: dict[str, bool] = {}
        self._against: dict[str, int] = {}
        self._due: dict[str, float] = {}

    def __repr__(self) -> str:
        unwell = sum(not well for well in self._well.values())
        return f"<RouteHealth {self.team}/{self.service}: {unwell} of {len(self.devices)} devices unwell>"

    def cover(self, devices: Sequence[str], known: RouteHealth | None) -> None:
        """Be about these devices; of those that are known already, think what was thought."""
        self.devices = tuple(devices)
        if known is None or (known.service, known.check) != (self.service, self.check):
            return
        kept = frozenset(devices)
        self._well = {device: well for device, well in known._well.items() if device in kept}
        self._against = {device: number for device, number in known._against.items() if device in kept}
        self._due = {device: at for device, at in known._due.items() if device in kept}

    def usable(self, device: str, service: ServiceName) -> bool:  # noqa: ARG002  it knows of one
        """Whether the device is not known to be unwell."""
        return self._well.get(device, True)

    def take_due(self, now: float) -> list[str]:
        """The devices that are to be asked now; they are due again after the interval."""
        due = [device for device in self.devices if self._due.get(device, now) <= now]
        for device in due:
            self._due[device] = now + self.check.interval
        return due

    def record(self, device: str, *, well: bool) -> bool:
        """Count an answer; True if with it something else is thought of the device."""
        thought = self._well.get(device)
        if thought is well:
            self._against[device] = 0
            return False
        self._against[device] = self._against.get(device, 0) + 1
        if thought is not None and self._against[device] < self.check.threshold:
            return False
        self._against[device] = 0
        self._well[device] = well
        return thought is not None or not well


class Probe(Protocol):
    """Asks a service."""

    async def ask(self, health: RouteHealth, device: str) -> bool | None:
        """Whether the service of a device is well; None when that cannot be told."""
        ...


class _Start:
    """Waits for the status of a response."""

    def __init__(self) -> None:
        self._received = b""
        self.status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: Buffer) -> None:
        self._received += bytes(data[:_MAX_START])
        match = _STATUS.match(self._received)
        if match is not None:
            self._decide(int(match[1]))
        elif len(self._received) >= _MAX_START:
            self._decide(None)

    def eof_received(self) -> None:
        self._decide(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._decide(None)

    def pause_writing(self) -> None:
        """A question is short."""

    def resume_writing(self) -> None:
        """It was written at once."""

    def _decide(self, status: int | None) -> None:
        if not self.status.done():
            self.status.set_result(status)


class ServiceProbe:
    """Asks through the relay. Implements `Probe`.

    Args:
        dialer: gets streams.
    """

    def __init__(self, dialer: ServiceDialer) -> None:
        self._dialer = dialer

    async def ask(self, health: RouteHealth, device: str) -> bool | None:
        timeout = min(_TIMEOUT, health.check.interval)
        try:
            shown = b"" if health.credential is None else await health.credential.lines()
        except HomeportError:
            return None
        try:
            async with asyncio.timeout(timeout):
                stream = await self._dialer.dial(
                    health.team, device, health.service, None, OpenOptions(timeout=timeout)
                )
                start = _Start()
                stream.attach(start)
                try:
                    stream.write(_question(health.check.path, shown))
                    status = await start.status
                finally:
                    stream.reset()
        except (DeviceOfflineError, DrainingError, RelayUnavailableError):
            return None
        except (SessionStoreError, TimeoutError):
            return False
        return status is not None and status < 400


class HealthChecks:
    """Asks the devices of all routes that want it, each in its time.

    Args:
        probe: asks one.
        now: tells the monotonic time.
        log: says when something else is thought of a device.
    """

    def __init__(self, probe: Probe, now: Callable[[], float], *, log: Logger | None = None) -> None:
        self._probe = probe
        self._now = now
        self._log = log if log is not None else get_logger(__name__)
        self._watched: tuple[RouteHealth, ...] = ()
        self._news = asyncio.Event()
        self._free = asyncio.Semaphore(_AT_ONCE)

    def watch(self, routes: Iterable[RouteHealth]) -> None:
        """From now on, ask the devices of these, and of no others."""
        self._watched = tuple(routes)
        self._news.set()

    def unwell(self) -> int:
        """Devices that are passed over now; one that several routes share counts for each."""
        return sum(not health.usable(device, health.service) for health in self._watched for device in health.devices)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            self._news.clear()
            await self.check_due()
            try:
                async with asyncio.timeout(_LOOK if self._watched else None):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def check_due(self) -> None:
        """Ask all who are due."""
        now = self._now()
        async with asyncio.TaskGroup() as tasks:
            for health in self._watched:
                for device in health.take_due(now):
                    tasks.create_task(self._check(health, device))

    async def _check(self, health: RouteHealth, device: str) -> None:
        async with self._free:
            well = await self._probe.ask(health, device)
        if well is not None and health.record(device, well=well):
            self._log.info(
                "a device is well again" if well else "a device is unwell, and is passed over",
                team=health.team,
                device=device,
                service=health.service,
            )


def _question(path: str, shown: bytes) -> bytes:
    lines = b"Host: localhost\r\nUser-Agent: homeport-health\r\nAccept: */*\r\nConnection: close\r\n"
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path.encode("ascii"), lines, shown)
