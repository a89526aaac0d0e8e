"""The backends of one gateway: how many connections each may have, and the idle ones, kept for the next request.

A connection is made to an address that was looked at just then (`outbound`). It is used again only by requests of the
same team to the same scheme, host and port, whichever route they came by: a request says by itself which route's
credential it shows. Teams share none, so that whoever makes a backend lose count of requests and responses has only
their own to take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from api_server.backends.errors import BackendFullError
from api_server.backends.stream import BackendStream
from api_server.outbound.policy import Target
from api_server.streams import IdleStreams, StreamKey
from common.errors import HomeportError
from common.ids import TeamId
from common.sessions.interfaces import DEFAULT_OPEN_OPTIONS, OpenOptions

if TYPE_CHECKING:
    import asyncio

__all__ = ["BackendStatistics", "BackendStreams", "Backends", "Connects"]

_RETRY_AFTER: Final = 1.0
"""Seconds that a client is told to wait for a connection to become free."""


class Connects(Protocol):
    """Makes connections: `outbound.Connector`."""

    async def connect(
        self, protocol_factory: Callable[[], BackendStream], target: Target, *, timeout: float
    ) -> tuple[asyncio.Transport, BackendStream]:
        """A connection to an address that was checked, over TLS if the target says so."""
        ...


@dataclass(frozen=True, slots=True)
class BackendStatistics:
    """How the backends of a gateway are doing."""

    open: int
    """Connections that stand or are being made."""
    idle: int
    """Of these, those kept for the next request."""
    opened: int
    reused: int
    refused: Counter[str]
    """Connections that could not be had, by the code of the error."""


class Backends:
    """Connections to backends.

    Args:
        connector: makes them.
        connect_timeout: seconds until one must stand; resolving the name and the TLS handshake count.
        max_connections: at a time, to all backends together.
        max_per_backend: at a time, of one team to one host and port.
        max_idle: connections kept for the next request, in all.
        max_idle_per_backend: connections kept for a team's next request to one host and port.
        idle_timeout: seconds that one is kept.
    """

    def __init__(
        self,
        connector: Connects,
        *,
        connect_timeout: float = 10.0,
        max_connections: int = 4096,
        max_per_backend: int = 512,
        max_idle: int = 1024,
        max_idle_per_backend: int = 64,
        idle_timeout: float = 30.0,
    ) -> None:
        self._connector = connector
        self._connect_timeout = connect_timeout
        self._max_connections = max_connections
        self._max_per_backend = max_per_backend
        self.pool: IdleStreams[BackendStream] = IdleStreams(
            max_idle=max_idle, max_per_key=max_idle_per_backend, idle_timeout=idle_timeout
        )
        self._open: Counter[StreamKey] = Counter()
        self._total = 0
        self._opened = 0
        self._refused: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Backends: {self._total} connections to {len(self._open)} backends, {len(self.pool)} idle>"

    def streams(self, team: TeamId, target: Target) -> BackendStreams:
        """The source of streams to one backend; as many as are wanted may be made of the same.

        Args:
            team: whose requests they carry.
            target: as `TargetPolicy.check_url` gave it.
        """
        return BackendStreams(self, team, target)

    def statistics(self) -> BackendStatistics:
        """How they are doing."""
        return BackendStatistics(
            open=self._total,
            idle=len(self.pool),
            opened=self._opened,
            reused=self.pool.statistics().reused,
            refused=self._refused.copy(),
        )

    def expire(self, now: float) -> None:
        """End what has been idle for too long; to be called about once a second."""
        self.pool.expire(now)

    def close(self) -> None:
        """Reset what is idle."""
        self.pool.close()

    async def dial(self, target: Target, key: StreamKey) -> BackendStream:
        """A fresh connection.

        Raises:
            BackendFullError: there are as many as are allowed.
            OutboundError: it cannot be had.
        """
        try:
            return await self._dial(target, key)
        except HomeportError as exc:
            self._refused[exc.code] += 1
            raise

    async def _dial(self, target: Target, key: StreamKey) -> BackendStream:
        if self._open[key] >= self._max_per_backend or self._total >= self._max_connections:
            raise BackendFullError(
                f"{target.host} has {self._open[key]} connections of this gateway, and gets no more now",
                retry_after=_RETRY_AFTER,
            )
        self._open[key] += 1
        self._total += 1
        try:
            _, stream = await self._connector.connect(lambda: BackendStream(key), target, timeout=self._connect_timeout)
        except BaseException:
            self._release(key)
            raise
        self._opened += 1
        stream.when_over(lambda: self._release(key))
        return stream

    def _release(self, key: StreamKey) -> None:
        self._total -= 1
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]


class BackendStreams:
    """The streams of a team to one backend: a `StreamSource` of the gateway.

    Args:
        backends: of the gateway.
        team: whose requests they carry.
        target: where to.
    """

    __slots__ = ("_backends", "_key", "_pool", "_target")

    def __init__(self, backends: Backends, team: TeamId, target: Target) -> None:
        self._backends = backends
        self._pool = backends.pool
        self._target = target
        self._key: StreamKey = ((target.host, target.port), (target.scheme, team))

    def __repr__(self) -> str:
        return f"<BackendStreams to {self._target.scheme}://{self._target.authority}>"

    def take(self, now: float, max_idle: float | None) -> BackendStream | None:
        """An idle stream, without waiting; None without one.

        Args:
            now: seconds, monotonic.
            max_idle: seconds that it may have been idle at most; None for any time.
        """
        return self._pool.take_by_key(self._key, now, max_idle)

    async def get(
        self, now: float, max_idle: float | None, options: OpenOptions = DEFAULT_OPEN_OPTIONS
    ) -> BackendStream:
        """A stream: an idle one, else a fresh one.

        Raises:
            BackendFullError, OutboundError: there is none to be had.
        """
        stream = self.take(now, max_idle)
        return stream if stream is not None else await self.dial(options)

    async def dial(self, options: OpenOptions = DEFAULT_OPEN_OPTIONS) -> BackendStream:  # noqa: ARG002
        """A fresh stream.

        Raises:
            BackendFullError, OutboundError: there is none to be had.
        """
        return await self._backends.dial(self._target, self._key)

    async def redial(self, stale: BackendStream, options: OpenOptions = DEFAULT_OPEN_OPTIONS) -> BackendStream:  # noqa: ARG002
        """A fresh stream, where one was found closed."""
        return await self._backends.dial(self._target, self._key)

    def device_of(self, stream: BackendStream) -> None:
        """There is no choice."""

    def put(self, stream: BackendStream, now: float) -> None:
        """Keep a stream whose last exchange is complete for another."""
        self._pool.put(stream, now)

    def retire(self, stream: BackendStream, now: float) -> None:
        """End a stream whose last exchange is complete and that shall not be used again."""
        self._pool.retire(stream, now)
