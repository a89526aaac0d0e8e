"""The token bucket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.yamux.limits import RateLimit


def test_a_burst_and_no_more() -> None:
    limit = RateLimit(10.0, 3, now=0.0)
    assert [limit.take(0.0) for _ in range(5)] == [True, True, True, False, False]


def test_it_fills_with_time_up_to_a_burst() -> None:
    limit = RateLimit(10.0, 3, now=0.0)
    for _ in range(3):
        limit.take(0.0)
    assert not limit.take(0.05)
    assert limit.take(0.1)
    assert not limit.take(0.1)
    assert [limit.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_a_refusal_does_not_put_off_the_next_grant() -> None:
    limit = RateLimit(1.0, 1, now=0.0)
    assert limit.take(0.0)
    assert [limit.take(n / 10) for n in range(1, 11)] == [False] * 9 + [True]


@given(st.lists(st.floats(0, 0.5), max_size=200), st.integers(1, 20), st.floats(0.5, 50))
def test_never_laxer_than_burst_plus_rate(gaps: list[float], burst: int, rate: float) -> None:
    limit = RateLimit(rate, burst, now=0.0)
    now = 0.0
    taken = 0
    for gap in gaps:
        now += gap
        taken += limit.take(now)
        assert taken <= burst + now * rate + 1e-6


@given(st.integers(1, 50), st.integers(1, 500))
def test_a_flow_below_the_rate_is_never_refused(burst: int, count: int) -> None:
    limit = RateLimit(10.0, burst, now=0.0)
    assert all(limit.take(n * 0.2) for n in range(count))
