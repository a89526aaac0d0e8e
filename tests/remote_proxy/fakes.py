"""Stand-ins that implement the relay's interfaces, for tests that need no network."""

from __future__ import annotations

from collections.abc import Callable

from common.ids import DeviceId, ServiceName, SessionId, TeamId, new_session_id
from common.sessions.errors import SessionNotFoundError
from common.sessions.interfaces import DEFAULT_OPEN_OPTIONS, OpenOptions, SessionState, Summary
from common.tunnel.stream import Stream, StreamSink

HOME = TeamId("home")


class FakeClock:
    """Stands still until told to move."""

    def __init__(self, wall: float = 1_795_000_000.0) -> None:
        self._monotonic = 1_000.0
        self._wall = wall

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
        self._wall += seconds


class FakeTunnel:
    """A tunnel without a device. `on_close` runs inside `close`, as a real tunnel's own clean-up would."""

    def __init__(
        self,
        device: str,
        epoch: int,
        *,
        team: TeamId = HOME,
        name: str | None = None,
        session_id: SessionId | None = None,
        on_close: Callable[[FakeTunnel], None] | None = None,
    ) -> None:
        self.session_id = session_id or new_session_id()
        self.epoch = epoch
        self.team = team
        self.device = DeviceId(device)
        self.name = name or device
        self.state = SessionState.HEALTHY
        self.revision = 0
        self.silent_for = 0.0
        self.closed: list[str] = []
        self._on_close = on_close

    def __repr__(self) -> str:
        return f"<FakeTunnel {self.team}/{self.device} epoch {self.epoch}>"

    def silence(self) -> float:
        return self.silent_for

    def describe(self) -> Summary:
        return Summary(
            id=self.session_id,
            device=self.device,
            device_name=self.name,
            team=self.team,
            relay="relay",
            epoch=self.epoch,
            state=self.state,
            connected_at=0.0,
            last_heartbeat=0.0,
            rtt_ms=None,
            streams=0,
            bytes_in=0,
            bytes_out=0,
            subprotocol="yamux",
            remote_address="192.0.2.1:40000",
            agent_version=None,
        )

    async def summary(self) -> Summary:
        if self.closed:
            raise SessionNotFoundError
        return self.describe()

    async def open_stream(
        self, service: ServiceName, sink: StreamSink, options: OpenOptions = DEFAULT_OPEN_OPTIONS
    ) -> Stream:
        raise SessionNotFoundError

    def close(self, reason: str) -> None:
        self.closed.append(reason)
        if self._on_close is not None:
            self._on_close(self)


class Recorder:
    """A store's observer that keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, SessionId, str | None]] = []
        self.summaries: list[Summary] = []

    def session_online(self, session: Summary) -> None:
        self._hear("online", session, None)

    def session_offline(self, session: Summary, reason: str) -> None:
        self._hear("offline", session, reason)

    def session_updated(self, session: Summary) -> None:
        self._hear("updated", session, None)

    def _hear(self, what: str, session: Summary, reason: str | None) -> None:
        self.heard.append((what, session.id, reason))
        self.summaries.append(session)
