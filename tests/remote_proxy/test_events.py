from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_proxy.errors import EventsLostError
from remote_proxy.events import EventKind, EventRing
from tests.remote_proxy.fakes import FakeClock, FakeTunnel

SESSION = FakeTunnel("cam", 1).describe()


def ring(size: int = 4, instance: str = "abcd") -> EventRing:
    return EventRing(instance, size=size, clock=FakeClock())


def test_a_reader_gets_what_came_after_its_position() -> None:
    events = ring()
    first = events.append(EventKind.ONLINE, SESSION)
    second = events.append(EventKind.OFFLINE, SESSION, "dead")
    assert events.after(0, limit=10) == [first, second]
    assert events.after(events.position(first.id), limit=10) == [second]
    assert events.after(events.position(second.id), limit=10) == []
    assert second.reason == "dead"
    assert second.team == "home"


def test_a_page_is_bounded() -> None:
    events = ring()
    ids = [events.append(EventKind.UPDATED, SESSION).id for _ in range(4)]
    assert [event.id for event in events.after(1, limit=2)] == ids[1:3]


def test_a_reader_that_fell_out_of_the_ring_is_told() -> None:
    events = ring(size=2)
    for _ in range(3):
        events.append(EventKind.UPDATED, SESSION)
    assert len(events.after(1, limit=10)) == 2
    with pytest.raises(EventsLostError):
        events.after(0, limit=10)


@pytest.mark.parametrize(
    "event_id", ["", "abcd", "abcd-", "abcd--1", "abcd-1x", "other-1", "abcd-²", "abcd-" + "9" * 40]
)
def test_an_id_that_is_not_one_of_this_process_is_lost(event_id: str) -> None:
    events = ring()
    events.append(EventKind.UPDATED, SESSION)
    with pytest.raises(EventsLostError):
        events.position(event_id)


def test_an_event_that_has_not_happened_is_lost() -> None:
    events = ring()
    with pytest.raises(EventsLostError):
        events.after(events.position("abcd-7"), limit=1)


def test_listeners_hear_of_each_event_and_of_the_end() -> None:
    events = ring()
    heard: list[int] = []
    unlisten = events.listen(lambda: heard.append(events.last))
    events.append(EventKind.ONLINE, SESSION)
    events.close()
    assert heard == [1, 1]
    assert events.closed
    unlisten()
    events.append(EventKind.ONLINE, SESSION)
    assert heard == [1, 1]


def test_a_listener_may_leave_while_it_is_called() -> None:
    events = ring()
    heard: list[str] = []

    def leave() -> None:
        heard.append("once")
        unlisten()

    unlisten = events.listen(leave)
    events.append(EventKind.ONLINE, SESSION)
    events.append(EventKind.ONLINE, SESSION)
    assert heard == ["once"]


@given(size=st.integers(1, 8), steps=st.lists(st.one_of(st.just(None), st.integers(1, 5)), max_size=60))
def test_a_reader_sees_every_event_once_in_order_or_learns_that_it_lost_some(
    size: int, steps: list[int | None]
) -> None:
    """None is an event; a number is the reader taking at most that many."""
    events = ring(size=size)
    position = 0
    seen: list[int] = []
    for step in steps:
        if step is None:
            events.append(EventKind.UPDATED, SESSION)
            continue
        try:
            batch = events.after(position, limit=step)
        except EventsLostError:
            assert events.last - position > size
            position = events.last
            continue
        numbers = [events.position(event.id) for event in batch]
        assert numbers == list(range(position + 1, position + 1 + len(batch)))
        position += len(batch)
        seen += numbers
    assert seen == sorted(set(seen))
