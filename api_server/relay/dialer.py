"""From a device's name to a stream to its service: the pool first, then the directory and the forwarder.

"Look up, then open" is a race with the device, which may reconnect between the two. The open carries the epoch that the
lookup found. If the relay says that the session is gone or was replaced, the lookup was old: it is done again, once.

Where the relay is the cause that there is no stream yet, the caller waits for it, as `absence` says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from api_server.relay.absence import Absence
from api_server.relay.directory import SessionDirectory
from api_server.relay.forwarder import Forwarder
from api_server.relay.pool import StreamPool
from api_server.relay.stream import RelayStream
from common.clock import SystemClock
from common.ids import ServiceName, TeamId
from common.sessions.errors import (
    DeviceOfflineError,
    DeviceUnknownError,
    DrainingError,
    RelayUnavailableError,
    SessionNotFoundError,
    SessionReplacedError,
    SessionStoreError,
)
from common.sessions.interfaces import DEFAULT_OPEN_OPTIONS, OpenOptions
from common.tunnel.stream import StreamSink

__all__ = ["ServiceDialer"]


_IMPATIENT: Final = 0.0


class _VanishedError(DeviceOfflineError):
    """The device has no session, and it had one a moment ago."""


class ServiceDialer:
    """Gets streams to services of devices.

    Args:
        directory: knows where a device is.
        forwarder: opens fresh streams.
        pool: holds idle ones.
        absence: knows when to wait for the relay; None: never.
    """

    __slots__ = ("absence", "directory", "forwarder", "pool")

    def __init__(
        self, directory: SessionDirectory, forwarder: Forwarder, pool: StreamPool, absence: Absence | None = None
    ) -> None:
        self.absence = absence if absence is not None else Absence(clock=SystemClock(), patience=_IMPATIENT)
        self.directory = directory
        self.forwarder = forwarder
        self.pool = pool

    def take(
        self, team: TeamId, device: str, service: ServiceName, now: float, max_idle: float | None = None
    ) -> RelayStream | None:
        """An idle stream to the service, without waiting; None if there is none, or if the device has to be looked up.

        Args:
            now: seconds, monotonic.
            max_idle: seconds that the stream may have been idle at most.

        Raises:
            DeviceOfflineError: the device is known to be offline.
        """
        try:
            location = self.directory.get_nowait(team, device)
        except DeviceUnknownError:
            raise
        except DeviceOfflineError:
            if self.absence.deadline(team, device) <= now:
                raise
            return None
        return None if location is None else self.pool.take(location.session_id, service, now, max_idle)

    async def get(
        self,
        team: TeamId,
        device: str,
        service: ServiceName,
        now: float,
        max_idle: float | None = None,
        options: OpenOptions = DEFAULT_OPEN_OPTIONS,
    ) -> RelayStream:
        """A stream to the service: an idle one if the pool has one, else a fresh one.

        Args:
            now: seconds, monotonic.
            max_idle: seconds that the stream may have been idle at most.
            options: for a fresh one; `epoch` is set here.

        Raises:
            DeviceOfflineError, ServiceRefusedError, ServiceTimeoutError, OverCapacityError, DrainingError,
            RelayUnavailableError: as `dial` says.
        """

        async def attempt() -> RelayStream:
            location = await self.directory.get(team, device)
            stream = self.pool.take(location.session_id, service, now, max_idle)
            return stream if stream is not None else await self._dial_twice(team, device, service, None, options)

        return await self._patiently(team, device, attempt)

    async def dial(
        self,
        team: TeamId,
        device: str,
        service: ServiceName,
        sink: StreamSink | None = None,
        options: OpenOptions = DEFAULT_OPEN_OPTIONS,
    ) -> RelayStream:
        """Open a fresh stream to the service.

        Args:
            sink: gets the stream's bytes; with None they are held until `RelayStream.attach`.
            options: `epoch` is set here.

        Raises:
            DeviceOfflineError: the device has no session, or each that was found was over already.
            ServiceRefusedError, ServiceTimeoutError, OverCapacityError, DrainingError, RelayUnavailableError: as
                `Handle.open_stream` says.
        """
        return await self._patiently(team, device, lambda: self._dial_twice(team, device, service, sink, options))

    async def _patiently(self, team: TeamId, device: str, attempt: Callable[[], Awaitable[RelayStream]]) -> RelayStream:
        """Try until there is a stream, or nothing to wait for."""
        absence = self.absence
        began: float | None = None
        vanished_at: float | None = None
        while True:
            error: SessionStoreError
            try:
                stream = await attempt()
            except RelayUnavailableError as exc:
                absence.relay_lost()
                error = exc
            except DeviceUnknownError:
                absence.relay_back()
                raise
            except DeviceOfflineError as exc:
                absence.relay_back()
                error = exc
            except DrainingError as exc:
                error = exc
            else:
                absence.relay_back()
                return stream
            now = absence.now()
            if began is None:
                began = now
            if vanished_at is None and isinstance(error, _VanishedError):
                vanished_at = now
            until = absence.deadline(team, device, vanished_at=vanished_at)
            if not await absence.wait(min(until, began + absence.patience)):
                raise error

    async def _dial_twice(
        self, team: TeamId, device: str, service: ServiceName, sink: StreamSink | None, options: OpenOptions
    ) -> RelayStream:
        try:
            return await self._dial(team, device, service, sink, options)
        except (SessionNotFoundError, SessionReplacedError):
            pass
        try:
            return await self._dial(team, device, service, sink, options)
        except DeviceOfflineError as exc:
            raise _VanishedError(exc.detail) from exc
        except (SessionNotFoundError, SessionReplacedError) as exc:
            raise DeviceOfflineError(f"the device {device} reconnects faster than it can be reached") from exc

    async def _dial(
        self, team: TeamId, device: str, service: ServiceName, sink: StreamSink | None, options: OpenOptions
    ) -> RelayStream:
        location = await self.directory.get(team, device)
        try:
            return await self.forwarder.open(
                location.session_id, team, service, sink, msgspec.structs.replace(options, epoch=location.epoch)
            )
        except (SessionNotFoundError, SessionReplacedError):
            self.directory.forget(team, device, location)
            raise
