from __future__ import annotations

from collections.abc import Iterator

import pytest

from common.ids import SessionId, TeamId, new_session_id
from common.sessions.errors import (
    DeviceOfflineError,
    InvalidCursorError,
    SessionNotFoundError,
    SessionReplacedError,
)
from common.sessions.interfaces import MAX_PAGE, SessionState, Summary
from remote_proxy.store import InMemoryStore
from tests.remote_proxy.fakes import HOME, FakeClock, FakeTunnel, Recorder

OTHER = TeamId("other")
EXPIRES_AFTER = 30.0


class Fixture:
    """A store, its clock and what its observer heard."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.recorder = Recorder()
        self.store: InMemoryStore[FakeTunnel] = InMemoryStore(
            clock=self.clock, expires_after=EXPIRES_AFTER, observer=self.recorder
        )

    def connect(self, device: str, epoch: int, team: TeamId = HOME, name: str | None = None) -> FakeTunnel:
        tunnel = FakeTunnel(device, epoch, team=team, name=name, on_close=self.clean_up)
        self.store.register_nowait(tunnel)
        return tunnel

    def clean_up(self, tunnel: FakeTunnel) -> None:
        """What a tunnel does when it ends, however late."""
        self.store.unregister_nowait(tunnel.team, tunnel.session_id, tunnel.epoch, reason="network")

    def all_ids(self, team: TeamId = HOME, limit: int = 100) -> list[SessionId]:
        return [summary.id for page in self.pages(team, limit) for summary in page]

    def pages(self, team: TeamId, limit: int) -> Iterator[list[Summary]]:
        cursor = None
        while True:
            page = self.store.list_nowait(team, limit=limit, cursor=cursor)
            yield page.items
            cursor = page.next
            if cursor is None:
                return


@pytest.fixture
def fix() -> Fixture:
    return Fixture()


def test_a_newer_session_takes_over_and_the_older_one_is_closed(fix: Fixture) -> None:
    older = fix.connect("cam", 1)
    newer = fix.connect("cam", 2)
    assert older.closed == ["replaced"]
    assert newer.closed == []
    assert fix.store.lookup_device_nowait(HOME, "cam") is newer
    assert fix.all_ids() == [newer.session_id]
    with pytest.raises(SessionNotFoundError):
        fix.store.lookup_nowait(HOME, older.session_id)
    assert fix.store.statistics().replaced == 1


def test_the_take_over_is_told_as_one_end_and_one_beginning(fix: Fixture) -> None:
    older = fix.connect("cam", 1)
    newer = fix.connect("cam", 2)
    assert fix.recorder.heard == [
        ("online", older.session_id, None),
        ("offline", older.session_id, "replaced"),
        ("online", newer.session_id, None),
    ]
    assert fix.recorder.summaries[1].state is SessionState.DRAINING


def test_during_the_take_over_everyone_sees_the_newer_session(fix: Fixture) -> None:
    seen: list[FakeTunnel] = []
    older = FakeTunnel("cam", 1, on_close=lambda _: seen.append(fix.store.lookup_device_nowait(HOME, "cam")))
    fix.store.register_nowait(older)
    newer = fix.connect("cam", 2)
    assert seen == [newer]


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_older_epoch_or_another_session_of_the_same_cannot_take_over(fix: Fixture, epoch: int) -> None:
    current = fix.connect("cam", 2)
    with pytest.raises(SessionReplacedError):
        fix.connect("cam", epoch)
    assert fix.store.lookup_device_nowait(HOME, "cam") is current
    assert current.closed == []


def test_registering_twice_changes_nothing(fix: Fixture) -> None:
    tunnel = fix.connect("cam", 1)
    fix.store.register_nowait(tunnel)
    assert tunnel.closed == []
    assert len(fix.store) == 1
    assert len(fix.recorder.heard) == 1


def test_the_late_clean_up_of_the_older_session_leaves_the_newer_one(fix: Fixture) -> None:
    older = fix.connect("cam", 1)
    newer = fix.connect("cam", 2)
    fix.clean_up(older)
    assert fix.store.lookup_device_nowait(HOME, "cam") is newer
    assert len(fix.store) == 1


def test_unregister_only_if_the_epoch_matches(fix: Fixture) -> None:
    tunnel = fix.connect("cam", 7)
    assert not fix.store.unregister_nowait(HOME, tunnel.session_id, 6)
    assert tunnel.closed == []
    assert fix.store.unregister_nowait(HOME, tunnel.session_id, 7)
    assert tunnel.closed == ["closed_by_operator"]
    assert not fix.store.unregister_nowait(HOME, tunnel.session_id, 7)
    assert fix.recorder.heard[-1] == ("offline", tunnel.session_id, "closed_by_operator")


def test_another_team_finds_nothing(fix: Fixture) -> None:
    tunnel = fix.connect("cam", 1)
    assert fix.store.list_nowait(OTHER).items == []
    assert not fix.store.unregister_nowait(OTHER, tunnel.session_id)
    with pytest.raises(SessionNotFoundError):
        fix.store.lookup_nowait(OTHER, tunnel.session_id)
    with pytest.raises(DeviceOfflineError):
        fix.store.lookup_device_nowait(OTHER, "cam")
    with pytest.raises(SessionNotFoundError):
        fix.store.heartbeat_nowait(OTHER, tunnel.session_id, 1)
    assert fix.store.find_device(OTHER, tunnel.device) is None
    assert tunnel.closed == []


def test_the_same_device_id_in_two_teams_is_two_devices(fix: Fixture) -> None:
    ours = fix.connect("cam", 1)
    theirs = fix.connect("cam", 2, team=OTHER)
    assert ours.closed == []
    assert fix.store.lookup_device_nowait(HOME, "cam") is ours
    assert fix.store.lookup_device_nowait(OTHER, "cam") is theirs


def test_a_device_is_found_by_id_before_it_is_found_by_name(fix: Fixture) -> None:
    named = fix.connect("d1", 1, name="d2")
    assert fix.store.lookup_device_nowait(HOME, "d2") is named
    identified = fix.connect("d2", 2, name="porch")
    assert fix.store.lookup_device_nowait(HOME, "d2") is identified
    assert fix.store.lookup_device_nowait(HOME, "porch") is identified


def test_of_two_devices_of_one_name_the_newer_answers_and_then_the_other(fix: Fixture) -> None:
    first = fix.connect("d1", 1, name="porch")
    second = fix.connect("d2", 2, name="porch")
    assert fix.store.lookup_device_nowait(HOME, "porch") is second
    fix.clean_up(second)
    assert fix.store.lookup_device_nowait(HOME, "porch") is first
    fix.clean_up(first)
    with pytest.raises(DeviceOfflineError):
        fix.store.lookup_device_nowait(HOME, "porch")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
def test_pages_list_every_session_once_in_the_order_of_ids(fix: Fixture, limit: int) -> None:
    tunnels = [fix.connect(f"cam{number}", number) for number in range(1, 8)]
    fix.connect("foreign", 99, team=OTHER)
    assert fix.all_ids(limit=limit) == sorted(tunnel.session_id for tunnel in tunnels)
    assert all(len(page) <= limit for page in fix.pages(HOME, limit))


def test_sessions_that_come_and_go_between_pages_disturb_no_other(fix: Fixture) -> None:
    ids = [SessionId(f"ses_{number:032x}") for number in range(0, 20, 2)]
    for number, session_id in enumerate(ids):
        fix.store.register_nowait(FakeTunnel(f"cam{number}", 1, session_id=session_id))
    first = fix.store.list_nowait(HOME, limit=5)
    assert first.next == ids[4]
    fix.store.unregister_nowait(HOME, ids[4])  # the cursor itself
    fix.store.unregister_nowait(HOME, ids[0])
    fix.store.register_nowait(FakeTunnel("late", 1, session_id=SessionId(f"ses_{3:032x}")))
    second = fix.store.list_nowait(HOME, limit=100, cursor=first.next)
    assert [summary.id for summary in second.items] == ids[5:]
    assert second.next is None


def test_no_empty_page_follows_a_full_last_one(fix: Fixture) -> None:
    for number in range(4):
        fix.connect(f"cam{number}", 1)
    assert [len(page) for page in fix.pages(HOME, 2)] == [2, 2]


@pytest.mark.parametrize("cursor", ["", "x", "ses_", "ses_" + "g" * 32, "ses_" + "0" * 33])
def test_a_cursor_that_no_page_gave_is_refused(fix: Fixture, cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        fix.store.list_nowait(HOME, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
def test_a_page_has_a_size(fix: Fixture, limit: int) -> None:
    with pytest.raises(ValueError, match="limit must be"):
        fix.store.list_nowait(HOME, limit=limit)


def test_a_silent_session_expires_and_its_device_may_return(fix: Fixture) -> None:
    silent, lively = fix.connect("cam", 1), fix.connect("door", 2)
    fix.clock.advance(EXPIRES_AFTER + 1)
    silent.silent_for = EXPIRES_AFTER + 1
    assert fix.store.cleanup_expired_nowait() == 1
    assert silent.closed == ["dead"]
    assert lively.closed == []
    assert fix.recorder.heard[-1] == ("offline", silent.session_id, "dead")
    assert fix.store.cleanup_expired_nowait() == 0
    fix.connect("cam", 3)
    assert fix.store.statistics().expired == 1


def test_a_heartbeat_keeps_a_session_whose_tunnel_cannot_tell(fix: Fixture) -> None:
    tunnel = fix.connect("cam", 1)
    tunnel.silent_for = 1e9
    fix.clock.advance(EXPIRES_AFTER)
    fix.store.heartbeat_nowait(HOME, tunnel.session_id, 1)
    fix.clock.advance(EXPIRES_AFTER)
    assert fix.store.cleanup_expired_nowait() == 0
    fix.clock.advance(0.1)
    assert fix.store.cleanup_expired_nowait() == 1


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_heartbeat_of_another_epoch_is_not_this_session_s(fix: Fixture, epoch: int) -> None:
    tunnel = fix.connect("cam", 1)
    with pytest.raises(SessionNotFoundError):
        fix.store.heartbeat_nowait(HOME, tunnel.session_id, epoch)


def test_a_state_that_changed_by_time_is_told_once(fix: Fixture) -> None:
    tunnel = fix.connect("cam", 1)
    tunnel.state = SessionState.DEGRADED
    assert list(fix.store.refresh()) == []
    assert fix.recorder.heard[-1] == ("updated", tunnel.session_id, None)
    assert fix.recorder.summaries[-1].state is SessionState.DEGRADED
    list(fix.store.refresh())
    assert len(fix.recorder.heard) == 2


def test_a_change_that_was_not_told_at_once_is_told_by_the_next_refresh(fix: Fixture) -> None:
    tunnel = fix.connect("cam", 1)
    tunnel.revision += 3
    list(fix.store.refresh())
    list(fix.store.refresh())
    assert fix.recorder.heard[1:] == [("updated", tunnel.session_id, None)]


def test_a_refresh_lets_the_loop_turn_and_survives_what_happens_then(fix: Fixture) -> None:
    tunnels = [fix.connect(f"cam{number}", 1) for number in range(5)]
    for tunnel in tunnels:
        tunnel.state = SessionState.DEGRADED
    turns = 0
    for _ in fix.store.refresh(batch=2):
        turns += 1
        fix.clean_up(tunnels[-1])
    assert turns == 2
    assert [what for what, *_ in fix.recorder.heard].count("updated") == 4


def test_an_update_of_a_session_that_is_gone_is_not_told(fix: Fixture) -> None:
    fix.store.update_nowait(HOME, new_session_id())
    assert fix.recorder.heard == []


def test_going_through_all_tunnels_survives_their_end(fix: Fixture) -> None:
    for number in range(5):
        fix.connect(f"cam{number}", 1)
    fix.connect("cam", 1, team=OTHER)
    for tunnel in fix.store:
        fix.clean_up(tunnel)
    assert len(fix.store) == 0
    assert fix.store.statistics().teams == 0
    assert repr(fix.store) == "<InMemoryStore, 0 sessions of 0 teams>"


def test_a_page_asks_no_more_sessions_than_it_shows(fix: Fixture) -> None:
    """Of 10,000 sessions, whatever page it is."""

    class Counting(FakeTunnel):
        asked = 0

        def describe(self) -> Summary:
            Counting.asked += 1
            return super().describe()

    for number in range(10_000):
        fix.store.register_nowait(Counting(f"cam{number}", 1))
    Counting.asked = 0
    first = fix.store.list_nowait(HOME, limit=100)
    assert Counting.asked == 100
    last = fix.store.list_nowait(HOME, limit=100, cursor=fix.all_ids()[-50])
    assert (len(first.items), len(last.items)) == (100, 49)
    assert Counting.asked == 100 + 10_000 + 49
