"""Any interleaving of dials that the network delivers in any order, ends that are noticed late, silence, clean-up,
operators and revocations, on the relay's own sessions: `Gate`, `LiveTunnel`, `InMemoryStore` and `Revocations`.

`test_store_machine` has the store alone. Here the tunnels are the relay's; what is not is the connection below them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from common.crypto.session_tokens import CredentialId, SessionClaims, SessionTokenVerifier
from common.ids import DeviceId, TeamId
from common.logging import get_logger
from common.secret import Secret
from common.tunnel.dial import DIAL_HEADER, Dial
from common.tunnel.errors import TunnelLostError
from common.tunnel.handshake import HandshakeRequest, Refusal
from common.tunnel.interfaces import Subprotocol, TunnelStatistics
from common.wire.messages import RelayHello
from remote_proxy.revocations import RevocationKey, RevocationKind, Revocations
from remote_proxy.store import InMemoryStore
from remote_proxy.tunnels.admission import AdmissionLimits, Gate
from remote_proxy.tunnels.live import LiveTunnels
from remote_proxy.tunnels.session import LiveTunnel, TunnelContext
from remote_proxy.tunnels.traffic import Traffic
from tests.remote_proxy.fakes import HOME, FakeClock, Recorder

DEVICES = ["cam", "door"]
EXPIRES_AFTER = 30.0


@dataclass(eq=False)
class Connection:
    """A tunnel without a wire. Implements `RelayTunnel`, as far as a session needs it."""

    clock: FakeClock
    subprotocol: Subprotocol = Subprotocol.HOMEPORT_V1
    streams: int = 0
    last_received: float = 0.0
    closed: bool = False
    retiring: bool = False
    reasons: list[str] = field(default_factory=list)

    def greet(self, hello: RelayHello) -> None: ...

    def drain(self, *, reconnect_after: float = 0.0, reason: str = "draining") -> None: ...

    def retire(self, reason: str, *, grace: float, proof_within: float) -> None:
        assert self.streams, "there is nothing to wait for"
        self.retiring = True

    def close(self, reason: str = "closed") -> None:
        if not self.closed:
            self.closed = True
            self.reasons.append(reason)

    def statistics(self) -> TunnelStatistics:
        return TunnelStatistics(
            streams=self.streams,
            streams_total=self.streams,
            bytes_in=0,
            bytes_out=0,
            buffered=0,
            rtt=None,
            last_received=self.last_received,
            draining=False,
        )


@dataclass(frozen=True)
class Session:
    """One that was admitted, and its connection."""

    live: LiveTunnel
    connection: Connection
    device: str
    dial: Dial | None


class NamesAreTokens:
    """A verifier to which the name of a device is its token."""

    def verify(self, token: str, now: float) -> SessionClaims:
        return SessionClaims(
            device=DeviceId(token),
            device_name=token,
            team=TeamId(HOME),
            credential=CredentialId(f"crd-{token}"),
            issued_at=now,
            expires_at=now + 60.0,
        )


class SessionMachine(RuleBasedStateMachine):
    under_way = Bundle("under_way")
    """Dials that the network holds."""
    sessions = Bundle("sessions")
    """Everything that was ever admitted; each may end at any time later, more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.recorder = Recorder()
        self.revocations = Revocations()
        self.live: LiveTunnels[LiveTunnel] = LiveTunnels()
        self.store: InMemoryStore[LiveTunnel] = InMemoryStore(
            clock=self.clock, expires_after=EXPIRES_AFTER, observer=self.recorder
        )
        self.context = TunnelContext(
            clock=self.clock,
            store=self.store,
            revocations=self.revocations,
            traffic=Traffic(),
            live=self.live,
            log=get_logger("test"),
            relay_name=lambda: "relay",
            software="relay/1",
            probe_interval=5.0,
            dead_after=15.0,
            max_streams=10,
            opens_per_second=100.0,
        )
        self.gate = Gate(
            self.context,
            cast(SessionTokenVerifier, NamesAreTokens()),
            AdmissionLimits(max_tunnels=1000, handshakes_per_second=1e6, handshakes_burst=1e6),
        )
        self.number = 0
        self.all: list[Session] = []
        self.told: set[LiveTunnel] = set()
        """Whose end was noticed."""

    # The network

    @rule(target=under_way, device=st.sampled_from(DEVICES), boot=st.sampled_from(["bootaaaa", "bootbbbb", None]))
    def dial(self, device: str, boot: str | None) -> tuple[str, Dial | None]:
        self.number += 1
        return device, None if boot is None else Dial(boot, self.number)

    @rule(target=sessions, dialled=consumes(under_way), streams=st.integers(0, 1))
    def arrive(self, dialled: tuple[str, Dial | None], streams: int) -> Session | None:
        device, dial = dialled
        present = self.store.find_device(HOME, DeviceId(device))
        request = HandshakeRequest(
            token=Secret(device),
            subprotocol=Subprotocol.HOMEPORT_V1,
            headers={} if dial is None else {DIAL_HEADER.lower(): str(dial)},
            remote_address="192.0.2.1:40000",
        )
        decision = self.gate.admit(request)
        if isinstance(decision, Refusal):
            if decision.code == "revoked":
                assert self.revocations.revoked((self.key(device),), self.clock.wall())
            else:
                assert decision.code == "replaced"
                assert dial is not None
                assert present is not None
                assert dial.is_before(present.dial)
            assert self.store.find_device(HOME, DeviceId(device)) is present
            return None
        assert dial is None or present is None or not dial.is_before(present.dial), "a late dial took over"
        live = decision.handler
        assert isinstance(live, LiveTunnel)
        connection = Connection(self.clock, last_received=self.clock.monotonic())
        session = Session(live, connection, device, dial)
        self.all.append(session)
        live.tunnel_opened(connection)  # type: ignore[arg-type]
        connection.streams = streams
        assert self.store.find_device(HOME, DeviceId(device)) is live, "in service at once"
        if present is not None:
            assert live.epoch > present.epoch
        return session

    @precondition(lambda self: self.all)
    @rule(session=sessions)
    def notice_the_end(self, session: Session | None) -> None:
        """The connection is gone, or the relay's own close is through: late, and in any order."""
        if session is None or session.live in self.told:
            return
        self.told.add(session.live)
        session.connection.closed = True
        session.live.tunnel_closed(TunnelLostError("gone", reason="network"))
        assert self.store.find_device(HOME, DeviceId(session.device)) is not session.live

    @rule(session=sessions)
    def hear(self, session: Session | None) -> None:
        if session is not None:
            session.connection.last_received = self.clock.monotonic()

    @rule(seconds=st.sampled_from([1.0, 20.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # The relay

    @rule()
    def reap(self) -> None:
        self.store.cleanup_expired_nowait()
        for live in self.store:
            assert live.silence() <= EXPIRES_AFTER

    @rule(session=sessions, with_epoch=st.booleans())
    def close_by_operator(self, session: Session | None, with_epoch: bool) -> None:
        if session is not None:
            live = session.live
            present = self.store.find_device(HOME, DeviceId(session.device)) is live
            closed = self.store.unregister_nowait(HOME, live.session_id, live.epoch if with_epoch else None)
            assert closed is present

    @rule(session=sessions)
    def heartbeat_of_another_epoch(self, session: Session | None) -> None:
        if session is not None and self.store.find_device(HOME, DeviceId(session.device)) is session.live:
            self.store.heartbeat_nowait(HOME, session.live.session_id, session.live.epoch)

    @rule(device=st.sampled_from(DEVICES), seconds=st.sampled_from([10.0, 60.0]))
    def revoke(self, device: str, seconds: float) -> None:
        self.revocations.revoke(self.key(device), self.clock.wall() + seconds)
        for session in self.all:
            if session.device == device:
                assert session.connection.closed, "out within the call, also one that retires"

    @rule()
    def forget_what_expired(self) -> None:
        self.revocations.prune(self.clock.wall())

    # What always holds

    @invariant()
    def who_is_in_the_store_is_well(self) -> None:
        by_live = {session.live: session for session in self.all}
        for live in self.store:
            assert not by_live[live].connection.closed
            assert not by_live[live].connection.retiring
            assert live in set(self.live)

    @invariant()
    def a_device_has_one_session_that_serves(self) -> None:
        for live in self.store:
            for session in self.all:
                if session.dial is not None and not session.connection.closed and not session.connection.retiring:
                    assert session.live is live or session.device != live.describe().device

    @invariant()
    def at_most_one_of_a_device_retires(self) -> None:
        for device in DEVICES:
            retiring = [
                session
                for session in self.all
                if session.device == device and session.connection.retiring and not session.connection.closed
            ]
            assert len(retiring) <= 1

    @invariant()
    def each_session_is_told_online_once_and_offline_once(self) -> None:
        for session_id in {session_id for _, session_id, _ in self.recorder.heard}:
            told = [what for what, its_id, _ in self.recorder.heard if its_id == session_id and what != "updated"]
            assert told in (["online"], ["online", "offline"])

    def teardown(self) -> None:
        for session in self.all:
            if session.live not in self.told:
                session.connection.closed = True
                session.live.tunnel_closed(TunnelLostError("gone", reason="network"))
        assert len(self.store) == 0
        assert len(self.live) == 0
        assert self.context.retiring == {}
        assert self.revocations.revoke(self.key("cam"), 0.0) == 0, "nobody is attached any more"

    @staticmethod
    def key(device: str) -> RevocationKey:
        return RevocationKey(RevocationKind.DEVICE, HOME, device)


TestSessionMachine = SessionMachine.TestCase
