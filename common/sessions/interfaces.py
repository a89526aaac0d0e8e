"""The session store: who is connected, and a way to reach them.

Two stores implement it, and one contract suite runs against both: the relay's `InMemoryStore` holds the live tunnels,
the API server's `ProxyClientStore` asks the relay over internal HTTP. Every call carries the team: a session of another
team is not found, never forbidden. A session is addressed by its id, never by a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from common.ids import DeviceId, ServiceName, SessionId, TeamId
from common.tunnel.stream import Stream, StreamSink

__all__ = [
    "DEFAULT_OPEN_OPTIONS",
    "MAX_PAGE",
    "Handle",
    "OpenOptions",
    "Page",
    "SessionState",
    "Store",
    "Summary",
    "Tunnel",
]

MAX_PAGE = 1_000
"""Sessions on one page of a list, at most."""


class SessionState(StrEnum):
    """How a session is doing."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Connected, but silent for longer than one probe, or a service of it is unhealthy."""
    DRAINING = "draining"
    """Replaced, closed or being drained: no new streams."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a list shows of one session; the JSON item of `GET /api/sessions`."""

    id: SessionId
    device: DeviceId
    device_name: str
    team: TeamId
    relay: str
    """The relay's own name, for people: a host name and port, or a label."""
    epoch: int
    """Rises with each session of the device; the fencing token of every late clean-up."""
    state: SessionState
    connected_at: float
    """Seconds since the Unix epoch, as are all times here."""
    last_heartbeat: float
    rtt_ms: float | None
    streams: int
    bytes_in: int
    """Payload bytes from the device."""
    bytes_out: int
    """Payload bytes to the device."""
    subprotocol: str
    remote_address: str
    agent_version: str | None
    services: Mapping[str, str] = {}
    """Service name to its health: `healthy`, `unhealthy` or `unknown`."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list, in the order of session ids."""

    items: list[Summary]
    next: str | None
    """Cursor of the next page; None at the end."""


class OpenOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What goes with a stream to a service."""

    timeout: float = 10.0
    """Seconds until the agent must have answered the open."""
    traceparent: str | None = None
    """W3C Trace Context of the request, passed to the agent."""
    epoch: int | None = None
    """Refuse with `SessionReplacedError` if the session is of another epoch."""


DEFAULT_OPEN_OPTIONS = OpenOptions()


class Handle(Protocol):
    """A way to reach one session."""

    @property
    def session_id(self) -> SessionId: ...

    @property
    def epoch(self) -> int: ...

    async def summary(self) -> Summary:
        """The session as it is now.

        Raises:
            SessionNotFoundError: it is gone.
        """
        ...

    async def open_stream(
        self, service: ServiceName, sink: StreamSink, options: OpenOptions = DEFAULT_OPEN_OPTIONS
    ) -> Stream:
        """Open a stream to a service of the device; returns once the agent accepted it.

        Raises:
            SessionNotFoundError: the session is gone.
            SessionReplacedError: `options.epoch` does not match.
            ServiceRefusedError: no such service, or the agent could not connect to it.
            ServiceTimeoutError: the agent did not answer within `options.timeout`.
            OverCapacityError: the stream limit of the session or the relay is reached.
            DrainingError: the session or the relay takes no new streams.
            RelayUnavailableError: the relay does not answer.
        """
        ...


class Tunnel(Handle, Protocol):
    """What the relay registers: a handle that holds the live tunnel."""

    @property
    def state(self) -> SessionState:
        """How it is doing now; the `state` of `describe`, but cheap."""
        ...

    @property
    def revision(self) -> int:
        """Rises whenever something of the summary has changed that others should be told of."""
        ...

    def describe(self) -> Summary:
        """The session as it is now, without waiting."""
        ...

    def silence(self) -> float:
        """Seconds since the last byte from the device."""
        ...

    def close(self, reason: str) -> None:
        """End the session at once: streams are reset, the WebSocket is closed, the device may dial again. A no-op for
        one that has ended.

        Args:
            reason: a stable code that the agent logs: `replaced`, `closed_by_operator`, `revoked`, `dead`, `draining`.
        """
        ...


class Store(Protocol):
    """Who is connected."""

    async def register(self, tunnel: Tunnel) -> None:
        """Make `tunnel` the session of its device, taking over from an older one atomically.

        Raises:
            NotSupportedError: this store does not hold tunnels.
            SessionReplacedError: the device has a session of a higher epoch.
        """
        ...

    async def unregister(self, team: TeamId, session_id: SessionId, epoch: int | None = None) -> bool:
        """End and forget a session; only if it has that `epoch`, when one is given. Returns whether there was one;
        a session that does not exist is no error.
        """
        ...

    async def lookup(self, team: TeamId, session_id: SessionId) -> Handle:
        """The handle of a session.

        Raises:
            SessionNotFoundError: no such session in the team.
        """
        ...

    async def lookup_device(self, team: TeamId, device: str) -> Handle:
        """The handle of the device's current session, by the device's id or name.

        Raises:
            DeviceOfflineError: the device has no session in the team.
        """
        ...

    async def exists(self, team: TeamId, session_id: SessionId) -> bool:
        """Whether the team has that session; an error other than "not found" is raised."""
        ...

    async def list(self, team: TeamId, *, limit: int = 100, cursor: str | None = None) -> Page:
        """A page of the team's sessions, at most `limit` (1 to `MAX_PAGE`). Every session that stays is on exactly one
        page; one that comes or goes meanwhile is on one or none.

        Raises:
            InvalidCursorError: `cursor` is not one that a page gave.
        """
        ...

    async def heartbeat(self, team: TeamId, session_id: SessionId, epoch: int) -> None:
        """Note that the session is alive.

        Raises:
            NotSupportedError: this store does not hold tunnels.
            SessionNotFoundError: no such session of that epoch.
        """
        ...

    async def cleanup_expired(self) -> int:
        """End the sessions that have been silent for too long; returns how many.

        Raises:
            NotSupportedError: this store does not hold tunnels.
        """
        ...
