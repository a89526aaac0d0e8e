"""Streams to one service of one device."""

from __future__ import annotations

from api_server.gateway.targets import ServiceStream
from api_server.relay.dialer import ServiceDialer
from api_server.relay.stream import RelayStream
from common.ids import ServiceName, TeamId
from common.sessions.interfaces import OpenOptions

__all__ = ["DeviceStreams"]


class DeviceStreams:
    """Streams to one service of one device. Implements `StreamSource`.

    Args:
        dialer: gets them.
        team: whose device it is.
        device: its id or name.
        service: of the device.
    """

    __slots__ = ("_device", "_dialer", "_service", "_team")

    def __init__(self, dialer: ServiceDialer, team: TeamId, device: str, service: ServiceName) -> None:
        self._dialer = dialer
        self._team = team
        self._device = device
        self._service = service

    def __repr__(self) -> str:
        return f"<DeviceStreams {self._team}/{self._device}/{self._service}>"

    def take(self, now: float, max_idle: float | None) -> RelayStream | None:
        return self._dialer.take(self._team, self._device, self._service, now, max_idle)

    async def get(self, now: float, max_idle: float | None, options: OpenOptions) -> RelayStream:
        return await self._dialer.get(self._team, self._device, self._service, now, max_idle, options)

    async def dial(self, options: OpenOptions) -> RelayStream:
        return await self._dialer.dial(self._team, self._device, self._service, None, options)

    async def redial(self, stale: ServiceStream, options: OpenOptions) -> RelayStream:  # noqa: ARG002  there is but one
        return await self.dial(options)

    def device_of(self, stream: ServiceStream) -> None:
        """There is no choice."""

    def put(self, stream: ServiceStream, now: float) -> None:
        assert isinstance(stream, RelayStream)
        self._dialer.pool.put(stream, now)

    def retire(self, stream: ServiceStream, now: float) -> None:
        assert isinstance(stream, RelayStream)
        self._dialer.pool.retire(stream, now)
