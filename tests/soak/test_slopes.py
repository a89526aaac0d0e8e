"""A leak is told from noise, and noise is not taken for a leak."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.soak.slopes import BUDGETS, growth, theil_sen


def samples(
    rng: random.Random, slope: float, *, noise: float, minutes: float = 20.0
) -> tuple[list[float], list[float]]:
    """Something that grows by `slope` a minute, sampled every 5 s: with noise, now and then a burst, and a first third
    in which it fills its caches.
    """
    moments = [n / 12 for n in range(int(minutes * 12))]
    values = [
        100.0
        + slope * minute
        + min(minute, minutes / 3)
        + rng.gauss(0.0, noise)
        + (30 * noise if rng.random() < 0.1 else 0.0)
        for minute in moments
    ]
    return moments, values


@pytest.mark.parametrize("what", BUDGETS)
@pytest.mark.parametrize("seed", range(5))
def test_a_planted_leak_of_twice_the_budget_is_found_and_none_is_not(what: str, seed: int) -> None:
    budget = BUDGETS[what]
    rng = random.Random(f"{what} {seed}")
    noise = budget.a_minute * 2
    assert growth(*samples(rng, 2 * budget.a_minute, noise=noise)).exceeds(budget)
    assert not growth(*samples(rng, 0.0, noise=noise)).exceeds(budget)


def test_a_burst_that_is_over_is_no_leak() -> None:
    minutes = [n / 12 for n in range(240)]
    values = [500.0 if 190 < n < 230 else 50.0 for n in range(240)]
    assert growth(minutes, values).slope == 0.0


def test_the_first_half_of_a_life_is_left_out() -> None:
    minutes = [float(n) for n in range(20)]
    found = growth(minutes, [min(n, 9.0) * 10 for n in minutes])
    assert (found.slope, found.first, found.last, found.points, found.minutes) == (0.0, 90.0, 90.0, 10, 9.0)


@given(st.floats(-1e6, 1e6), st.floats(-1e3, 1e3), st.integers(2, 800))
def test_a_straight_line_has_its_own_slope(level: float, slope: float, points: int) -> None:
    minutes = [n / 10 for n in range(points)]
    found = theil_sen(minutes, [level + slope * minute for minute in minutes])
    assert found == pytest.approx(slope, abs=1e-6 * (1 + abs(level)))


def test_one_moment_has_no_slope() -> None:
    assert theil_sen([1.0], [5.0]) == 0.0
    assert theil_sen([1.0, 1.0], [5.0, 9.0]) == 0.0
