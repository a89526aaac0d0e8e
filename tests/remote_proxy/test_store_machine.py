"""Any interleaving of sessions that come, take over, end late, expire and are closed, against a model of two lines.

The model: a device's session is the tunnel of the highest epoch that was registered, unless that one has ended.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from common.ids import DeviceId, TeamId
from common.sessions.errors import DeviceOfflineError, SessionNotFoundError, SessionReplacedError
from remote_proxy.store import InMemoryStore
from tests.remote_proxy.fakes import FakeClock, FakeTunnel, Recorder

TEAMS = [TeamId("home"), TeamId("other")]
DEVICES = ["cam", "door", "porch"]


class StoreMachine(RuleBasedStateMachine):
    admitted = Bundle("admitted")
    """Tunnels that have an epoch and are not registered yet."""
    registered = Bundle("registered")
    """Tunnels that were registered at some time; each may end at any time later, more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.recorder = Recorder()
        self.store: InMemoryStore[FakeTunnel] = InMemoryStore(
            clock=self.clock, expires_after=30.0, observer=self.recorder
        )
        self.current: dict[tuple[TeamId, DeviceId], FakeTunnel] = {}
        self.ended: set[int] = set()
        self.epoch = 0

    @rule(target=admitted, team=st.sampled_from(TEAMS), device=st.sampled_from(DEVICES), name=st.sampled_from(DEVICES))
    def admit(self, team: TeamId, device: str, name: str) -> FakeTunnel:
        self.epoch += 1
        return FakeTunnel(device, self.epoch, team=team, name=name, on_close=self.clean_up_within_close)

    @rule(target=registered, tunnel=consumes(admitted))
    def register(self, tunnel: FakeTunnel) -> FakeTunnel:
        place = (tunnel.team, tunnel.device)
        older = self.current.get(place)
        try:
            self.store.register_nowait(tunnel)
        except SessionReplacedError:
            assert older is not None
            assert older.epoch > tunnel.epoch
        else:
            assert older is None or (older.epoch < tunnel.epoch and older.closed == ["replaced"])
            self.current[place] = tunnel
        return tunnel

    @rule(tunnel=registered)
    def end(self, tunnel: FakeTunnel) -> None:
        """The clean-up of a tunnel's own, early or late, once or again."""
        existed = self.store.unregister_nowait(tunnel.team, tunnel.session_id, tunnel.epoch, reason="network")
        assert existed is self.forget(tunnel)

    def clean_up_within_close(self, tunnel: FakeTunnel) -> None:
        """By the time a tunnel is closed by the store, the store knows it no more."""
        assert not self.store.unregister_nowait(tunnel.team, tunnel.session_id, tunnel.epoch)

    @rule(tunnel=registered)
    def close_by_operator(self, tunnel: FakeTunnel) -> None:
        was_current = self.is_current(tunnel)
        assert self.store.unregister_nowait(tunnel.team, tunnel.session_id) is was_current
        self.forget(tunnel)

    @rule(tunnel=registered)
    def close_with_a_wrong_epoch(self, tunnel: FakeTunnel) -> None:
        assert not self.store.unregister_nowait(tunnel.team, tunnel.session_id, tunnel.epoch + 1)

    @rule(tunnel=registered)
    def close_as_another_team(self, tunnel: FakeTunnel) -> None:
        for team in TEAMS:
            if team != tunnel.team:
                assert not self.store.unregister_nowait(team, tunnel.session_id, tunnel.epoch)

    @rule(tunnel=registered, seconds=st.sampled_from([1.0, 40.0]))
    def fall_silent(self, tunnel: FakeTunnel, seconds: float) -> None:
        self.clock.advance(seconds)
        tunnel.silent_for = seconds

    @rule()
    def reap(self) -> None:
        self.store.cleanup_expired_nowait()
        for tunnel in list(self.current.values()):
            if not self.in_store(tunnel):
                assert tunnel.silent_for > 30.0
                assert tunnel.closed[-1] == "dead"
                self.forget(tunnel)

    @invariant()
    def each_device_has_its_current_session_and_no_other(self) -> None:
        for team in TEAMS:
            expected = {t.session_id: t for (its_team, _), t in self.current.items() if its_team == team}
            page = self.store.list_nowait(team)
            assert [summary.id for summary in page.items] == sorted(expected)
            for device in DEVICES:
                tunnel = self.current.get((team, DeviceId(device)))
                named = [t for t in expected.values() if t.name == device]
                try:
                    found = self.store.lookup_device_nowait(team, device)
                except DeviceOfflineError:
                    assert tunnel is None
                    assert not named
                else:
                    assert found is tunnel if tunnel is not None else found in named
        assert len(self.store) == len(self.current)

    @invariant()
    def no_session_of_the_store_was_closed(self) -> None:
        for tunnel in self.store:
            assert tunnel.closed == []

    @invariant()
    def online_and_offline_alternate_for_each_session(self) -> None:
        for session_id in {session_id for _, session_id, _ in self.recorder.heard}:
            told = [what for what, its_id, _ in self.recorder.heard if its_id == session_id]
            assert told in (["online"], ["online", "offline"])

    def is_current(self, tunnel: FakeTunnel) -> bool:
        return self.current.get((tunnel.team, tunnel.device)) is tunnel

    def forget(self, tunnel: FakeTunnel) -> bool:
        if not self.is_current(tunnel):
            return False
        del self.current[tunnel.team, tunnel.device]
        return True

    def in_store(self, tunnel: FakeTunnel) -> bool:
        try:
            return self.store.lookup_nowait(tunnel.team, tunnel.session_id) is tunnel
        except SessionNotFoundError:
            return False


TestStoreMachine = StoreMachine.TestCase
