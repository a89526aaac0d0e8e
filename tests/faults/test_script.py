"""A script means the same as text and as data, and decides the same each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.script import REPLAY, Action, Direction, Script, ScriptError, Step

_SECONDS = st.integers(0, 10**7).map(lambda microseconds: microseconds / 1e6)
_SIZES = st.integers(1, 10**9)


@st.composite
def _steps(draw: st.DrawFn) -> Step:
    action = draw(st.sampled_from(Action))
    values: dict[str, object] = {}
    if action is Action.DELAY:
        values = {"seconds": draw(_SECONDS), "jitter": draw(_SECONDS)}
    elif action in (Action.BANDWIDTH, Action.SPLIT):
        values = {"size": draw(_SIZES)}
    elif action is Action.MERGE:
        values = {"size": draw(_SIZES), "seconds": draw(_SECONDS)}
    elif action is Action.CORRUPT:
        values = {"mask": draw(st.integers(0, 255))}
    if action is Action.SPLIT and draw(st.booleans()):
        values["size_to"] = draw(st.integers(int(str(values["size"])), 2 * 10**9))
    place = draw(st.sampled_from(["now", "at", "range", "after"]))
    if place == "after":
        values["after"] = draw(_SECONDS)
    elif place != "now":
        values["at"] = draw(st.integers(0, 10**9))
        values["at_to"] = draw(st.integers(max(int(str(values["at"])), 1), 2 * 10**9)) if place == "range" else 0
    direction, connection = draw(st.sampled_from(Direction)), draw(st.integers(0, 99))
    return Step(direction=direction, action=action, connection=connection, **values)  # type: ignore[arg-type]


@given(st.lists(_steps(), max_size=4), st.integers(0, 10**9))
def test_text_and_back_is_the_same_script(steps: list[Step], seed: int) -> None:
    script = Script(tuple(steps), seed)
    assert Script.parse(str(script)) == script


@given(st.lists(_steps(), max_size=4), st.integers(0, 99), st.sampled_from([Direction.UP, Direction.DOWN]))
def test_the_same_seed_decides_the_same(steps: list[Step], seed: int, direction: Direction) -> None:
    first, second = (list(Script(tuple(steps), seed).of_connection(3, direction)) for _ in range(2))
    assert first == second
    for step in first:
        assert not step.at_to
        assert step.direction is direction
        assert step.action is not Action.CORRUPT or step.mask


def test_units_and_ranges() -> None:
    step = Step.parse("#2 both split 1KiB-2MiB at 5-9")
    assert (step.connection, step.direction, step.size, step.size_to) == (2, Direction.BOTH, 1024, 2 << 20)
    assert Step.parse("up delay 1500ms jitter 0.25s") == Step(
        direction=Direction.UP, action=Action.DELAY, seconds=1.5, jitter=0.25
    )
    drawn = {next(Script((step,), seed).of_connection(2, Direction.DOWN)).at for seed in range(100)}
    assert drawn == {5, 6, 7, 8, 9}
    assert list(Script((step,)).of_connection(1, Direction.UP)) == []


@pytest.mark.parametrize(
    "text",
    [
        "sideways stall",
        "up",
        "up delay",
        "up delay 5",
        "up stall at",
        "up stall 3s",
        "down split 9-3",
        "down split 0",
        "up corrupt 0x100",
        "#0 up stall",
        "up stall at 9-3",
        "up stall at 3 after 2s",
    ],
)
def test_what_is_no_step(text: str) -> None:
    with pytest.raises(ScriptError):
        Script.parse(text)


def test_the_environment_goes_before() -> None:
    script = Script.parse("up reset")
    assert str(script.or_replayed({REPLAY: "seed 4; down stall at 10"})) == "seed 4; down stall at 10"
    assert script.or_replayed({}) == script
