"""Limits on wrong tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.guesses import GuessLimiter


def test_a_burst_and_then_one_an_interval() -> None:
    guesses = GuessLimiter(burst=3, interval=10)
    assert [guesses.wrong("a", 0.0) for _ in range(3)] == [None, None, None]
    assert guesses.wrong("a", 0.0) == 10.0
    assert guesses.wrong("a", 4.0) == 6.0
    assert guesses.wrong("a", 10.0) is None
    assert guesses.wrong("a", 10.0) == 10.0


def test_a_refused_guess_costs_nothing_more() -> None:
    guesses = GuessLimiter(burst=1, interval=10)
    assert guesses.wrong("a", 0.0) is None
    for _ in range(100):
        assert guesses.wrong("a", 1.0) == 9.0
    assert guesses.wrong("a", 10.0) is None


def test_asking_counts_nothing_and_agrees_with_what_a_guess_is_told() -> None:
    guesses = GuessLimiter(burst=2, interval=10)
    assert guesses.wait("a", 0.0) == 0.0
    assert len(guesses) == 0
    guesses.wrong("a", 0.0)
    assert [guesses.wait("a", 0.0) for _ in range(5)] == [0.0] * 5
    guesses.wrong("a", 0.0)
    assert guesses.wait("a", 4.0) == guesses.wrong("a", 4.0) == 6.0
    assert guesses.wait("b", 4.0) == 0.0
    assert guesses.wait("a", 10.0) == 0.0


def test_addresses_do_not_share() -> None:
    guesses = GuessLimiter(burst=1, interval=10)
    assert guesses.wrong("192.0.2.1", 0.0) is None
    assert guesses.wrong("192.0.2.2", 0.0) is None
    assert guesses.wrong("192.0.2.1", 0.0) is not None


def test_one_subscriber_has_one_bucket_however_many_addresses() -> None:
    guesses = GuessLimiter(burst=1, interval=10)
    assert guesses.wrong("2001:db8::1", 0.0) is None
    assert guesses.wrong("2001:db8::ffff:1", 0.0) is not None
    assert guesses.wrong("2001:db8:0:1::1", 0.0) is None
    assert guesses.wrong("192.0.2.1", 0.0) is None
    assert guesses.wrong("::ffff:192.0.2.1", 0.0) is not None
    assert guesses.wrong("fe80::1%eth0", 0.0) is None
    assert guesses.wrong("not:an:address", 0.0) is None


def test_memory_is_bounded_and_the_busy_address_stays() -> None:
    guesses = GuessLimiter(burst=1000, interval=10, max_addresses=100)
    for number in range(1000):
        guesses.wrong(f"10.0.{number // 256}.{number % 256}", 0.0)
        guesses.wrong("busy", 0.0)
    assert len(guesses) == 100
    assert guesses.wrong("busy", 0.0) is not None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_no_more_pass_than_burst_and_time_allow(steps: list[float]) -> None:
    guesses = GuessLimiter(burst=5, interval=7)
    now, passed = 0.0, 0
    for step in steps:
        now += step
        passed += guesses.wrong("a", now) is None
        assert passed <= 5 + now / 7 + 1e-9
