"""The timer wheel: never early, at most a tick late, and nothing forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from api_server.gateway.timers import NEVER, TimerWheel

TICK = 0.5


class Item:
    """Something with a deadline."""

    def __init__(self, on_due: Callable[[Item, float], None] | None = None) -> None:
        self.deadline = NEVER
        self.bucket = TimerWheel.UNARMED
        self.fired: list[float] = []
        self._on_due = on_due

    def due(self, now: float) -> None:
        self.fired.append(now)
        self.deadline = NEVER
        if self._on_due is not None:
            self._on_due(self, now)


def test_an_item_is_due_after_its_deadline_and_not_before() -> None:
    wheel, item = TimerWheel(tick=TICK, now=100.0), Item()
    wheel.arm(item, 101.2)
    for now in (100.5, 101.0, 101.19):
        wheel.advance(now)
        assert item.fired == []
    wheel.advance(101.7)
    assert item.fired == [101.7]
    wheel.advance(200)
    assert item.fired == [101.7]


def test_a_deadline_that_moves_back_and_forth() -> None:
    wheel, item = TimerWheel(tick=TICK, now=0.0), Item()
    wheel.arm(item, 10)
    wheel.arm(item, 50)
    wheel.advance(49)
    assert item.fired == []
    wheel.arm(item, 60)
    wheel.arm(item, 52)
    wheel.advance(52.6)
    assert item.fired == [52.6]


def test_an_item_may_be_armed_anew_when_it_is_due() -> None:
    wheel = TimerWheel(tick=TICK, now=0.0)
    item = Item(lambda item, now: wheel.arm(item, now + 10))
    wheel.arm(item, 5)
    for now in range(60):
        wheel.advance(float(now))
    assert item.fired == [6.0, 17.0, 28.0, 39.0, 50.0] or len(item.fired) == 5


def test_what_is_disarmed_is_not_due() -> None:
    wheel, item = TimerWheel(tick=TICK, now=0.0), Item()
    wheel.arm(item, 5)
    wheel.disarm(item)
    assert len(wheel) == 0
    wheel.advance(10)
    assert item.fired == []
    wheel.disarm(item)


def test_one_that_is_due_may_disarm_another() -> None:
    wheel = TimerWheel(tick=TICK, now=0.0)
    items: list[Item] = []
    items.extend(Item(lambda item, _: [wheel.disarm(other) for other in items if other is not item]) for _ in range(3))
    for item in items:
        wheel.arm(item, 5)
    wheel.advance(10)
    assert sum(len(item.fired) for item in items) == 1


def test_one_that_never_comes_is_not_looked_at_again() -> None:
    wheel, item = TimerWheel(tick=TICK, now=0.0), Item()
    wheel.arm(item, 5)
    wheel.arm(item, NEVER)
    wheel.advance(10)
    assert item.fired == []
    assert len(wheel) == 0
    wheel.arm(item, 12)
    wheel.advance(13)
    assert item.fired == [13]


def test_a_deadline_beyond_the_horizon() -> None:
    wheel, item = TimerWheel(tick=TICK, now=0.0), Item()
    wheel.arm(item, 86_400)
    for now in range(0, 86_400, 1000):
        wheel.advance(float(now))
        assert item.fired == []
    wheel.advance(86_401)
    assert item.fired == [86_401]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), st.integers(0, 4), st.floats(0, 500)),
        st.tuples(st.just("disarm"), st.integers(0, 4), st.just(0.0)),
        st.tuples(st.just("advance"), st.just(0), st.floats(0, 100)),
    ),
    max_size=60,
)


@given(steps=steps)
def test_it_agrees_with_a_list_that_is_looked_through(steps: list[tuple[str, int, float]]) -> None:
    now = 1000.0
    wheel = TimerWheel(tick=TICK, now=now)
    items = [Item() for _ in range(5)]
    deadlines = [math.inf] * 5
    for kind, number, amount in steps:
        if kind == "arm":
            deadlines[number] = now + amount
            wheel.arm(items[number], now + amount)
        elif kind == "disarm":
            deadlines[number] = math.inf
            wheel.disarm(items[number])
        else:
            now += amount
            for item in items:
                item.fired.clear()
            wheel.advance(now)
            for number_, item in enumerate(items):
                if item.fired:
                    assert deadlines[number_] <= now, "early"
                    deadlines[number_] = math.inf
                assert deadlines[number_] > now - TICK, "late"
