"""The session store of a process that holds no tunnels: it asks the relay, and raw-forwards through it.

Its calls keep the contract of `common.sessions.interfaces.Store`, which a suite in `tests/contract` checks against this
store and the relay's own.
"""

from __future__ import annotations

from typing import NoReturn

from api_server.relay.client import ProxyClient
from api_server.relay.directory import Location
from api_server.relay.forwarder import Forwarder
from common.ids import ServiceName, SessionId, TeamId
from common.sessions.errors import (
    DeviceOfflineError,
    NotSupportedError,
    SessionNotFoundError,
    SessionReplacedError,
)
from common.sessions.interfaces import DEFAULT_OPEN_OPTIONS, OpenOptions, Page, Summary, Tunnel
from common.tunnel.stream import Stream, StreamSink

__all__ = ["ProxyClientStore", "RemoteHandle"]


class RemoteHandle:
    """A handle that holds no tunnel: its streams go through the relay that does.

    Args:
        team: of the session.
        session_id: of the session.
        epoch: that it had when it was looked up. A stream is opened on that epoch or not at all.
        client: asks for the summary.
        forwarder: opens the streams.
    """

    __slots__ = ("_client", "_epoch", "_forwarder", "_session_id", "_team")

    def __init__(
        self, team: TeamId, session_id: SessionId, epoch: int, *, client: ProxyClient, forwarder: Forwarder
    ) -> None:
        self._team = team
        self._session_id = session_id
        self._epoch = epoch
        self._client = client
        self._forwarder = forwarder

    def __repr__(self) -> str:
        return f"<RemoteHandle {self._session_id} of team {self._team}, epoch {self._epoch}>"

    @property
    def session_id(self) -> SessionId:
        return self._session_id

    @property
    def epoch(self) -> int:
        return self._epoch

    async def summary(self) -> Summary:
        return await self._client.session(self._team, self._session_id)

    async def open_stream(
        self, service: ServiceName, sink: StreamSink, options: OpenOptions = DEFAULT_OPEN_OPTIONS
    ) -> Stream:
        return await self._forwarder.open(self._session_id, self._team, service, sink, options)


class ProxyClientStore:
    """The sessions of a relay, over its internal HTTP.

    Args:
        client: asks the relay.
        forwarder: opens streams through it.
    """

    __slots__ = ("_client", "_forwarder")

    def __init__(self, client: ProxyClient, forwarder: Forwarder) -> None:
        self._client = client
        self._forwarder = forwarder

    async def register(self, tunnel: Tunnel) -> NoReturn:
        """Not here: the relay registers a session when its tunnel is upgraded."""
        raise NotSupportedError(f"the relay registers {tunnel.session_id} when its tunnel is upgraded")

    async def unregister(self, team: TeamId, session_id: SessionId, epoch: int | None = None) -> bool:
        try:
            return await self._client.close_session(team, session_id, epoch=epoch)
        except (SessionNotFoundError, SessionReplacedError):
            return False

    async def lookup(self, team: TeamId, session_id: SessionId) -> RemoteHandle:
        return self._handle(await self._client.session(team, session_id))

    async def lookup_device(self, team: TeamId, device: str) -> RemoteHandle:
        return self._handle(await self._session_of(team, device))

    async def locate(self, team: TeamId, device: str) -> Location:
        """Where the device is; what a `SessionDirectory` remembers.

        Raises:
            DeviceOfflineError: the device has no session in the team.
            RelayUnavailableError: the relay does not answer.
        """
        session = await self._session_of(team, device)
        return Location(session.id, session.epoch, session.device)

    async def _session_of(self, team: TeamId, device: str) -> Summary:
        page = await self._client.sessions(team, device=device, limit=1)
        if not page.items:
            raise DeviceOfflineError(f"the device {device} has no tunnel to the relay")
        return page.items[0]

    async def exists(self, team: TeamId, session_id: SessionId) -> bool:
        try:
            await self._client.session(team, session_id)
        except SessionNotFoundError:
            return False
        return True

    async def list(self, team: TeamId, *, limit: int = 100, cursor: str | None = None) -> Page:
        return await self._client.sessions(team, limit=limit, cursor=cursor)

    async def heartbeat(self, team: TeamId, session_id: SessionId, epoch: int) -> NoReturn:
        """Not here: the tunnel's own liveness is the heartbeat."""
        raise NotSupportedError(f"the tunnel of {session_id} in {team} keeps its own heartbeat (epoch {epoch})")

    async def cleanup_expired(self) -> NoReturn:
        """Not here: the relay has a reaper."""
        raise NotSupportedError("the relay ends the sessions that are silent")

    def _handle(self, summary: Summary) -> RemoteHandle:
        return RemoteHandle(summary.team, summary.id, summary.epoch, client=self._client, forwarder=self._forwarder)
