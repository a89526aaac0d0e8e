"""What stands for the relay and the clock in the tests of the REST API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from api_server.db.errors import DatabaseUnavailableError
from api_server.devices.interfaces import Revocation
from common.ids import DeviceId, ServiceName, SessionId, TeamId
from common.sessions.errors import (
    NotSupportedError,
    RelayUnavailableError,
    SessionNotFoundError,
    SessionReplacedError,
)
from common.sessions.interfaces import (
    DEFAULT_OPEN_OPTIONS,
    Handle,
    OpenOptions,
    Page,
    SessionState,
    Summary,
    Tunnel,
)
from common.tunnel.stream import Stream, StreamSink

HOME = TeamId("home")
AWAY = TeamId("away")


def summary(number: int = 0, *, team: TeamId = HOME, epoch: int = 1) -> Summary:
    """A session, of the device that has the same number."""
    return Summary(
        id=SessionId(f"ses_{number:032x}"),
        device=DeviceId(f"device-{number}"),
        device_name=f"device-{number}",
        team=team,
        relay="relay-1",
        epoch=epoch,
        state=SessionState.HEALTHY,
        connected_at=1_700_000_000.0,
        last_heartbeat=1_700_000_100.5,
        rtt_ms=12.5,
        streams=3,
        bytes_in=1000,
        bytes_out=2000,
        subprotocol="homeport.v1",
        remote_address="192.0.2.1",
        agent_version="0.1.0",
        services={"web": "healthy"},
    )


class FakeClock:
    """Stands still until it is told."""

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self.now = 1000.0
        self.wall_now = wall

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.wall_now

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall_now += seconds


class FakeHandle:
    """A handle on a summary."""

    def __init__(self, session: Summary) -> None:
        self._session = session

    @property
    def session_id(self) -> SessionId:
        return self._session.id

    @property
    def epoch(self) -> int:
        return self._session.epoch

    async def summary(self) -> Summary:
        return self._session

    async def open_stream(
        self, service: ServiceName, sink: StreamSink, options: OpenOptions = DEFAULT_OPEN_OPTIONS
    ) -> Stream:
        raise NotSupportedError


class FakeStore:
    """A store of summaries. `fault` makes every call fail, as a relay that is away does."""

    def __init__(self, *sessions: Summary) -> None:
        self.sessions = {session.id: session for session in sessions}
        self.calls: list[str] = []
        self.fault: Exception | None = None

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.fault is not None:
            raise self.fault

    async def register(self, tunnel: Tunnel) -> None:
        raise NotSupportedError

    async def unregister(self, team: TeamId, session_id: SessionId, epoch: int | None = None) -> bool:
        self._called("unregister")
        session = self.sessions.get(session_id)
        if session is None or session.team != team:
            return False
        if epoch is not None and epoch != session.epoch:
            raise SessionReplacedError
        del self.sessions[session_id]
        return True

    async def lookup(self, team: TeamId, session_id: SessionId) -> Handle:
        self._called("lookup")
        session = self.sessions.get(session_id)
        if session is None or session.team != team:
            raise SessionNotFoundError
        return FakeHandle(session)

    async def lookup_device(self, team: TeamId, device: str) -> Handle:
        raise NotSupportedError

    async def exists(self, team: TeamId, session_id: SessionId) -> bool:
        raise NotSupportedError

    async def list(self, team: TeamId, *, limit: int = 100, cursor: str | None = None) -> Page:
        self._called("list")
        after = cursor or ""
        found = sorted(
            (each for each in self.sessions.values() if each.team == team and each.id > after),
            key=lambda each: each.id,
        )
        more = len(found) > limit
        return Page(items=found[:limit], next=found[limit - 1].id if more else None)

    async def heartbeat(self, team: TeamId, session_id: SessionId, epoch: int) -> None:
        raise NotSupportedError

    async def cleanup_expired(self) -> int:
        raise NotSupportedError


@dataclass
class FakeDatabase:
    """A database that is there, or is not."""

    is_there: bool = True

    async def ping(self) -> None:
        if not self.is_there:
            raise DatabaseUnavailableError


@dataclass
class FakeRelay:
    """What the REST API asks of the relay beside its sessions."""

    is_ready: bool = True
    asked: int = 0
    revoked: list[Revocation] = field(default_factory=list)
    told: list[list[Revocation]] = field(default_factory=list)
    away: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the relay was told something."""

    async def reachable(self) -> bool:
        self.asked += 1
        return self.is_ready

    async def revoke(self, revocation: Revocation) -> None:
        self._answer()
        self.revoked.append(revocation)

    async def tell_revocations(self, revocations: Sequence[Revocation]) -> None:
        self._answer()
        self.told.append(list(revocations))
        self.changed.set()

    def _answer(self) -> None:
        if self.away:
            raise RelayUnavailableError
