"""The hub: who is handed what, who is cut off, and how one comes back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from api_server.events.errors import TooManyFollowersError
from api_server.events.hub import EventHub, Follower
from api_server.events.metrics import EventMetrics
from api_server.relay.events import SessionEvent
from common.ids import TeamId
from tests.api_server.fakes import AWAY, HOME, summary

pytestmark = pytest.mark.anyio

RESET = b"id:\nevent: reset\ndata: {}\n\n"


def hub(*, max_followers: int = 3, kept: int = 4, max_waiting: int = 6) -> tuple[EventHub, CollectorRegistry]:
    registry = CollectorRegistry()
    made = EventHub(metrics=EventMetrics(registry), max_followers=max_followers, kept=kept, max_waiting=max_waiting)
    return made, registry


def event(number: int, team: TeamId = HOME, kind: str = "session.online", event_id: str | None = None) -> SessionEvent:
    return SessionEvent(
        id=event_id if event_id is not None else f"r-{number}",
        type=kind,
        time=1.5,
        team=team,
        session=summary(number, team=team),
    )


async def ids(follower: Follower) -> list[str]:
    """Ids of all that waits for a follower; `reset` for a reset."""
    found = []
    for frame in (await follower.wait(0) or b"").decode().split("\n\n")[:-1]:
        fields = {name: value for name, _, value in (line.partition(":") for line in frame.split("\n"))}
        found.append(fields["id"].strip() or fields["event"].strip())
    return found


def nothing() -> None:
    raise AssertionError("nobody should have been cut off")


async def test_a_frame_is_a_server_sent_event() -> None:
    made, _ = hub()
    follower = made.follow(frozenset({HOME}), None, nothing)
    made.session_changed(event(1))
    frame = await follower.wait(0)
    assert frame is not None
    head, _, data = frame.decode().partition("data: ")
    assert head == "id: r-1\nevent: session.online\n"
    assert data.endswith("\n\n")
    found = json.loads(data)
    assert found.keys() == {"id", "type", "time", "team", "session", "reason"}
    assert found["session"]["device"] == "device-1"


async def test_each_sees_its_own_teams() -> None:
    made, _ = hub()
    home = made.follow(frozenset({HOME}), None, nothing)
    away = made.follow(frozenset({AWAY}), None, nothing)
    both = made.follow(frozenset({HOME, AWAY}), None, nothing)
    made.session_changed(event(1, HOME))
    made.session_changed(event(2, AWAY))
    assert await ids(home) == ["r-1"]
    assert await ids(away) == ["r-2"]
    assert await ids(both) == ["r-1", "r-2"]


async def test_a_follower_sees_what_comes_after_it_came() -> None:
    made, _ = hub()
    made.session_changed(event(1))
    follower = made.follow(frozenset({HOME}), None, nothing)
    assert await ids(follower) == []
    made.session_changed(event(2))
    assert await ids(follower) == ["r-2"]


async def test_one_that_comes_back_goes_on_where_it_was() -> None:
    made, _ = hub()
    for number in range(1, 5):
        made.session_changed(event(number, HOME if number != 3 else AWAY))
    assert await ids(made.follow(frozenset({HOME}), "r-1", nothing)) == ["r-2", "r-4"]
    assert await ids(made.follow(frozenset({HOME}), "r-3", nothing)) == ["r-4"], (
        "an event of another team is a place too"
    )
    assert await ids(made.follow(frozenset({HOME}), "r-4", nothing)) == []


@pytest.mark.parametrize("event_id", ["r-1", "other-5", "", "r-99", "x" * 256])
async def test_one_that_missed_too_much_is_told_to_begin_anew(event_id: str) -> None:
    made, _ = hub(kept=4)
    for number in range(1, 7):
        made.session_changed(event(number))
    follower = made.follow(frozenset({HOME}), event_id, nothing)
    assert await follower.wait(0) == RESET
    made.session_changed(event(7))
    assert await ids(follower) == ["r-7"]


async def test_events_that_were_lost_on_the_way_reset_everyone() -> None:
    made, registry = hub()
    follower = made.follow(frozenset({HOME}), None, nothing)
    made.session_changed(event(1))
    made.events_lost()
    made.session_changed(event(2))
    assert await ids(follower) == ["r-1", "reset", "r-2"]
    assert await ids(made.follow(frozenset({HOME}), "r-1", nothing)) == ["reset"], "what was before is not continued"
    assert registry.get_sample_value("homeport_api_events_lost_total") == 1


async def test_a_slow_one_is_cut_off_and_the_others_are_not() -> None:
    made, registry = hub(max_waiting=6)
    cuts: list[str] = []
    slow = made.follow(frozenset({HOME}), None, lambda: cuts.append("slow"))
    quick = made.follow(frozenset({HOME}), None, nothing)
    for number in range(1, 7):
        made.session_changed(event(number))
        assert await ids(quick) == [f"r-{number}"]
    assert cuts == []
    made.session_changed(event(7))
    assert cuts == ["slow"]
    assert await slow.wait(0) is None, "what waited for it is dropped"
    assert slow.waiting == 0
    assert await ids(quick) == ["r-7"]
    assert registry.get_sample_value("homeport_api_event_followers_cut_total") == 1
    assert registry.get_sample_value("homeport_api_event_followers") == 1
    made.session_changed(event(8))
    assert cuts == ["slow"], "once"


async def test_as_many_follow_as_may() -> None:
    made, registry = hub(max_followers=2)
    with made.follow(frozenset({HOME}), None, nothing), made.follow(frozenset({HOME}), None, nothing):
        assert registry.get_sample_value("homeport_api_event_followers") == 2
        with pytest.raises(TooManyFollowersError) as caught:
            made.follow(frozenset({HOME}), None, nothing)
        assert caught.value.retry_after == 5
    with made.follow(frozenset({HOME}), None, nothing):
        assert registry.get_sample_value("homeport_api_event_followers") == 1


async def test_closing_ends_the_streams_after_what_waits() -> None:
    made, _ = hub()
    follower = made.follow(frozenset({HOME}), None, nothing)
    made.session_changed(event(1))
    made.close()
    made.session_changed(event(2))
    assert await ids(follower) == ["r-1"]
    assert await follower.wait(60) is None
    with pytest.raises(TooManyFollowersError):
        made.follow(frozenset({HOME}), None, nothing)


async def test_a_heartbeat_is_due_when_nothing_comes() -> None:
    made, _ = hub()
    assert await made.follow(frozenset({HOME}), None, nothing).wait(0) == b""


@pytest.mark.parametrize(
    ("event_id", "kind"),
    [("a\nevent: x", "session.online"), ("a", "session.online\ndata: {}"), ("a\r", "x"), ("a", "x\u2028"), ("\0", "x")],
)
async def test_a_line_break_forges_no_event(event_id: str, kind: str) -> None:
    made, _ = hub()
    follower = made.follow(frozenset({HOME}), None, nothing)
    made.session_changed(event(1, kind=kind, event_id=event_id))
    assert await follower.wait(0) == b""


def test_who_comes_back_must_not_be_cut_off_for_it() -> None:
    with pytest.raises(ValueError, match="more must be allowed"):
        hub(kept=6, max_waiting=6)


@given(teams=st.lists(st.sampled_from([HOME, AWAY]), max_size=20), seen=st.integers(0, 20))
def test_coming_back_gives_exactly_what_was_missed_or_a_reset(teams: list[TeamId], seen: int) -> None:
    made, _ = hub(kept=8, max_waiting=9)
    for number, team in enumerate(teams):
        made.session_changed(event(number, team))
    follower = made.follow(frozenset({HOME}), f"r-{seen}", nothing)
    kept = range(max(0, len(teams) - 8), len(teams))
    missed = [number for number in kept if number > seen and teams[number] == HOME]
    assert follower.waiting == (len(missed) if seen in kept else 1)
