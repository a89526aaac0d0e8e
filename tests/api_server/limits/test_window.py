"""Windows and buckets, in pure time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.limits.window import DebtBucket, OpenBucket, SlidingWindow


def test_a_window_gives_its_quota_and_no_more() -> None:
    window = SlidingWindow(3, 10)
    assert [window.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert window.remaining(100.0) == 0
    # The next window begins at 110; what was used before counts by the part of it that is less than 10 s ago.
    assert not window.take(110.0)
    assert window.take(114.0)
    assert window.remaining(130.0) == 3


def test_all_of_a_cost_or_none_of_it() -> None:
    window = SlidingWindow(3, 10)
    assert window.take(0.0, 2)
    assert not window.take(0.0, 2)
    assert window.take(0.0, 1)


@given(
    quota=st.integers(1, 20),
    window=st.integers(1, 60),
    steps=st.lists(st.floats(0.0, 30.0), min_size=1, max_size=120),
)
def test_no_window_of_the_clock_gets_more_than_its_quota(quota: int, window: int, steps: list[float]) -> None:
    counter, now, used = SlidingWindow(quota, window), 0.0, dict[int, int]()
    for step in steps:
        now += step
        if counter.take(now):
            index = int(now // window)
            used[index] = used.get(index, 0) + 1
    assert all(count <= quota for count in used.values())


@given(quota=st.integers(1, 50), window=st.integers(1, 3600), start=st.floats(0.0, 1e6), early=st.integers(0, 50))
def test_who_waits_as_long_as_told_gets_one(quota: int, window: int, start: float, early: int) -> None:
    counter, now = SlidingWindow(quota, window), start
    for _ in range(early):
        counter.take(now)
    now += window * 0.7
    while counter.take(now):
        pass
    for _ in range(3):
        wait = counter.wait(now)
        assert 0.0 < wait <= 2 * window + 1
        now += wait
        assert counter.take(now)
        while counter.take(now):
            pass


def test_opens_come_back_at_the_rate() -> None:
    bucket = OpenBucket(2)
    assert [bucket.take(50.0) for _ in range(3)] == [True, True, False]
    assert bucket.wait(50.0) == pytest.approx(0.5)
    assert bucket.take(50.5)
    assert not bucket.take(50.5)
    bucket.give_back()
    assert bucket.wait(50.5) == 0.0


def test_bytes_that_were_too_many_are_waited_for() -> None:
    bucket = DebtBucket(1000)
    assert bucket.spend(1000, 10.0) == 0.0  # a second's worth after silence
    assert bucket.spend(500, 10.0) == pytest.approx(0.5)
    assert bucket.spend(500, 10.5) == pytest.approx(0.5)
    assert bucket.spend(1, 100.0) == 0.0


@given(st.lists(st.tuples(st.integers(1, 100_000), st.floats(0.0, 2.0)), min_size=1, max_size=50))
def test_who_waits_as_told_keeps_the_rate(pieces: list[tuple[int, float]]) -> None:
    """Beside one second's worth, which may go at once."""
    rate, bucket, now, sent = 10_000, DebtBucket(10_000), 0.0, 0
    for size, pause in pieces:
        now += bucket.spend(size, now) + pause
        sent += size
        assert sent <= rate * (now + 1.0) + 1e-6
