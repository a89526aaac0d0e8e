from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_proxy.limits import TokenBucket


def test_a_burst_passes_and_the_next_one_is_told_how_long_to_wait() -> None:
    bucket = TokenBucket(10.0, 3, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(0.0) == pytest.approx(0.1)


def test_waiting_as_long_as_told_is_enough() -> None:
    bucket = TokenBucket(10.0, 1, now=0.0)
    bucket.take(0.0)
    wait = bucket.take(0.04)
    assert wait == pytest.approx(0.06)
    assert bucket.take(0.04 + wait + 1e-9) == 0.0


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(1.0, 1, now=0.0)
    bucket.take(0.0)
    for tenth in range(1, 10):
        assert bucket.take(tenth / 10) > 0.0
    assert bucket.take(1.0) == 0.0


def test_a_long_pause_fills_the_bucket_no_further_than_its_burst() -> None:
    bucket = TokenBucket(100.0, 2, now=0.0)
    assert [bucket.take(1e6) > 0.0 for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.5)])
def test_a_bucket_that_lets_nothing_through_is_a_mistake(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="a bucket needs"):
        TokenBucket(rate, burst, now=0.0)


@given(
    rate=st.floats(0.5, 1_000.0),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0.0, 2.0), max_size=200),
)
def test_never_more_than_burst_plus_rate_times_time(rate: float, burst: int, pauses: list[float]) -> None:
    bucket = TokenBucket(rate, burst, now=0.0)
    now, taken = 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now) == 0.0
    assert taken <= burst + rate * now + 1e-6
