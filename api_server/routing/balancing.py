"""Streams to one of several devices, in turn. Implements `StreamSource`.

A device is passed over while nothing is to be expected of it:

    the relay says that it is not there, or its agent that the service is not well     `presence`
    checks of the route found it unwell                                                `health`
    no stream to it could be opened a moment ago                                       put aside for `_ASIDE` seconds
    its own limits let no more pass, and another's do                                  `limits`

Whether there is a stream is known before a byte of the request is sent. So one that cannot be opened is tried at one
other device, and no more: who waits has waited twice then. That a device is not connected is no try, since nobody was
asked. When a stream was found closed as the request was written to it, some of the request may have arrived there: then
the same device is asked again, or nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, Protocol

from api_server.gateway.errors import StreamResetError
from api_server.gateway.targets import ServiceStream
from api_server.relay.dialer import ServiceDialer
from api_server.relay.stream import RelayStream
from api_server.routing.errors import NoHealthyDeviceError
from common.errors import HomeportError
from common.ids import ServiceName, SessionId, TeamId
from common.sessions.errors import (
    DeviceOfflineError,
    DrainingError,
    OverCapacityError,
    ServiceRefusedError,
    ServiceTimeoutError,
)
from common.sessions.interfaces import OpenOptions

__all__ = ["BalancedStreams", "DeviceLimits", "NoLimits", "Usable"]

_ASIDE: Final = 5.0
"""Seconds."""

_RETRY_AFTER: Final = 5.0

_TRIES: Final = 2

_MOST_SESSIONS: Final = 64
"""Sessions of before that are remembered, beside one a device."""

_ELSEWHERE: Final = (ServiceRefusedError, ServiceTimeoutError, OverCapacityError, DrainingError)
"""Refusals that are a device's own: another may have no reason for them."""


class _LimitedError(Exception):
    """The limits of a device let no stream be opened to it."""

    def __init__(self, reason: HomeportError) -> None:
        super().__init__(reason.detail)
        self.reason = reason


class Usable(Protocol):
    """Knows of devices."""

    def usable(self, device: str, service: ServiceName) -> bool:
        """Whether nothing speaks against the service of a device."""
        ...


class DeviceLimits(Protocol):
    """Knows what devices may be asked for."""

    def has_room(self, team: TeamId, device: str) -> bool:
        """Whether no limit of a device is known to refuse one request more."""
        ...

    async def opening(self, team: TeamId, device: str) -> HomeportError | None:
        """A stream to a device is about to be opened; what its limits say against it."""
        ...


class NoLimits:
    """Devices may be asked for anything."""

    def has_room(self, team: TeamId, device: str) -> bool:  # noqa: ARG002
        return True

    async def opening(self, team: TeamId, device: str) -> None:
        """Nothing is against it."""


class BalancedStreams:
    """Streams to a service of several devices.

    Args:
        dialer: gets them.
        team: whose devices they are.
        devices: their ids.
        service: of each.
        judges: say what is to be expected of them.
        limits: of devices.
        now: tells the monotonic time.
    """

    __slots__ = (
        "_aside",
        "_devices",
        "_dialer",
        "_judges",
        "_limits",
        "_next",
        "_now",
        "_service",
        "_sessions",
        "_team",
    )

    def __init__(
        self,
        dialer: ServiceDialer,
        team: TeamId,
        devices: Sequence[str],
        service: ServiceName,
        *,
        judges: Sequence[Usable],
        limits: DeviceLimits,
        now: Callable[[], float],
    ) -> None:
        self._dialer = dialer
        self._team = team
        self._devices = tuple(devices)
        self._service = service
        self._judges = tuple(judges)
        self._limits = limits
        self._now = now
        self._next = 0
        self._aside: dict[str, float] = {}
        self._sessions: dict[SessionId, str] = {}
        """The device of each session that a stream was got of."""

    def __repr__(self) -> str:
        return f"<BalancedStreams {self._team}/{self._service} on {len(self._devices)} devices>"

    def take(self, now: float, max_idle: float | None) -> RelayStream | None:
        for device in self._in_turn(now):
            try:
                stream = self._dialer.take(self._team, device, self._service, now, max_idle)
            except DeviceOfflineError:
                continue
            if stream is not None:
                self._took(device, stream)
            # Without an idle stream to the one whose turn it is, a fresh one to it is better than somebody else's.
            return stream
        return None

    async def get(self, now: float, max_idle: float | None, options: OpenOptions) -> RelayStream:
        async def attempt(device: str) -> RelayStream:
            stream = self._dialer.take(self._team, device, self._service, now, max_idle)
            if stream is not None:
                return stream
            await self._may_open(device)
            return await self._dialer.get(self._team, device, self._service, now, max_idle, options)

        return await self._open(now, attempt)

    async def dial(self, options: OpenOptions) -> RelayStream:
        async def attempt(device: str) -> RelayStream:
            await self._may_open(device)
            return await self._dialer.dial(self._team, device, self._service, None, options)

        return await self._open(self._now(), attempt)

    async def redial(self, stale: ServiceStream, options: OpenOptions) -> RelayStream:
        assert isinstance(stale, RelayStream)
        for device in self._devices:
            try:
                location = self._dialer.directory.get_nowait(self._team, device)
            except DeviceOfflineError:
                continue
            if location is not None and location.session_id == stale.session_id:
                if (error := await self._limits.opening(self._team, device)) is not None:
                    raise error
                return await self._dialer.dial(self._team, device, self._service, None, options)
        raise StreamResetError("the device went away when the request was sent to it")

    def device_of(self, stream: ServiceStream) -> str | None:
        assert isinstance(stream, RelayStream)
        return self._sessions.get(stream.session_id)

    def put(self, stream: ServiceStream, now: float) -> None:
        assert isinstance(stream, RelayStream)
        self._dialer.pool.put(stream, now)

    def retire(self, stream: ServiceStream, now: float) -> None:
        assert isinstance(stream, RelayStream)
        self._dialer.pool.retire(stream, now)

    async def _open(self, now: float, attempt: Callable[[str], Awaitable[RelayStream]]) -> RelayStream:
        """A stream to the first device that gives one.

        Raises:
            NoHealthyDeviceError: nobody could be asked.
            SessionStoreError: as the last one said who was.
            TooManyOpensError: nobody else gave one, and this one may not be asked for more.
        """
        error: HomeportError | None = None
        tries = 0
        for device in list(self._in_turn(now)):
            try:
                stream = await attempt(device)
            except DeviceOfflineError:
                self._put_aside(device)
            except _LimitedError as exc:
                error = error or exc.reason
            except _ELSEWHERE as exc:
                self._put_aside(device)
                error = exc
                tries += 1
                if tries == _TRIES:
                    break
            else:
                self._took(device, stream)
                return stream
        if error is not None:
            raise error
        raise NoHealthyDeviceError(
            "no device of the route is connected and well" if self._devices else "no device has the route's label",
            retry_after=_RETRY_AFTER,
        )

    async def _may_open(self, device: str) -> None:
        """A stream to a device is about to be opened.

        Raises:
            _LimitedError: it may not be asked for more.
        """
        error = await self._limits.opening(self._team, device)
        if error is not None:
            raise _LimitedError(error)

    def _in_turn(self, now: float) -> Iterator[str]:
        """The devices of which something is to be expected, in turn; last those whose limits are against it, for what
        they say is the answer if there is no other.
        """
        devices, service, aside = self._devices, self._service, self._aside
        start = self._next
        full = []
        for offset in range(len(devices)):
            device = devices[(start + offset) % len(devices)]
            if aside and aside.get(device, 0.0) > now:
                continue
            if not all(each.usable(device, service) for each in self._judges):
                continue
            if self._limits.has_room(self._team, device):
                yield device
            else:
                full.append(device)
        yield from full

    def _took(self, device: str, stream: RelayStream) -> None:
        if len(self._sessions) > _MOST_SESSIONS + len(self._devices):
            self._sessions.clear()
        self._sessions[stream.session_id] = device
        self._next = (self._devices.index(device) + 1) % len(self._devices)
        self._aside.pop(device, None)

    def _put_aside(self, device: str) -> None:
        self._aside[device] = self._now() + _ASIDE
