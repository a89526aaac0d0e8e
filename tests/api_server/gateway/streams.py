"""Sources of streams for tests that need none."""

from __future__ import annotations

from typing import Final

from api_server.gateway.targets import ServiceStream
from common.ids import ServiceName, TeamId
from common.sessions.errors import DeviceOfflineError
from common.sessions.interfaces import OpenOptions

__all__ = ["NO_STREAMS", "NoStreams", "no_streams"]


class NoStreams:
    """Has none to give."""

    def take(self, now: float, max_idle: float | None) -> ServiceStream | None:
        return None

    async def get(self, now: float, max_idle: float | None, options: OpenOptions) -> ServiceStream:
        raise DeviceOfflineError("there are no streams")

    async def dial(self, options: OpenOptions) -> ServiceStream:
        raise DeviceOfflineError("there are no streams")

    async def redial(self, stale: ServiceStream, options: OpenOptions) -> ServiceStream:
        raise DeviceOfflineError("there are no streams")

    def device_of(self, stream: ServiceStream) -> None:
        """There is no choice."""

    def put(self, stream: ServiceStream, now: float) -> None:
        stream.reset()

    def retire(self, stream: ServiceStream, now: float) -> None:
        stream.reset()


NO_STREAMS: Final = NoStreams()


def no_streams(team: TeamId, device: str, service: ServiceName) -> NoStreams:
    """The same for each service."""
    return NO_STREAMS
