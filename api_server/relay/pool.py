"""Idle streams to services, kept for the next request."""

from __future__ import annotations

from api_server.relay.stream import RelayStream
from api_server.streams import IdleStreams, PoolStatistics
from common.ids import ServiceName, SessionId

__all__ = ["PoolStatistics", "StreamPool"]


class StreamPool(IdleStreams[RelayStream]):
    """The idle streams of one gateway, by session and service. Time is passed in.

    Args:
        max_idle: streams kept, in all.
        max_idle_per_service: streams kept for one service of one session.
        idle_timeout: seconds that one is kept.
    """

    __slots__ = ()

    def __init__(self, *, max_idle: int = 2048, max_idle_per_service: int = 64, idle_timeout: float = 30.0) -> None:
        super().__init__(max_idle=max_idle, max_per_key=max_idle_per_service, idle_timeout=idle_timeout)

    def take(
        self, session_id: SessionId, service: ServiceName, now: float, max_idle: float | None = None
    ) -> RelayStream | None:
        """The idle stream to a service that was used last, out of the pool; None without one.

        Args:
            now: seconds, monotonic.
            max_idle: seconds that it may have been idle at most.
        """
        return self.take_by_key((session_id, service), now, max_idle)
