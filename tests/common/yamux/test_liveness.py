"""Probes, death and round trips, on a clock that stands still until it is told."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.yamux import Config
from common.yamux.liveness import Liveness, Verdict

CONFIG = Config(probe_interval=5.0, dead_after=15.0, rtt_interval=30.0)


def measured(now: float = 0.0, rtt: float = 0.25) -> Liveness:
    """One that has just had its first answer."""
    liveness = Liveness(CONFIG, now)
    assert liveness.check(now) is Verdict.PROBE
    value = liveness.ping_sent(now)
    assert liveness.pong_received(value, now + rtt) == pytest.approx(rtt)
    liveness.heard = now + rtt
    return liveness


def test_the_first_check_measures() -> None:
    liveness = Liveness(CONFIG, 100.0)
    assert liveness.rtt is None
    assert liveness.path_delay == 0.0
    assert liveness.check(100.0) is Verdict.PROBE


def test_silence_is_probed_and_then_deadly() -> None:
    liveness = measured()
    assert liveness.check(5.0) is Verdict.WAIT
    assert liveness.deadline == pytest.approx(5.25)
    assert liveness.check(5.25) is Verdict.PROBE
    liveness.ping_sent(5.25)
    assert liveness.deadline == 10.25
    assert liveness.check(10.25) is Verdict.WAIT
    assert liveness.deadline == 15.25
    assert liveness.check(15.0) is Verdict.WAIT
    assert liveness.check(15.25) is Verdict.DEAD


def test_any_byte_is_life() -> None:
    liveness = measured()
    liveness.ping_sent(5.25)
    for second in range(6, 300):
        liveness.heard = float(second)
        assert liveness.check(second + 0.5) is Verdict.WAIT
    assert liveness.deadline == 299.5 + 5


def test_nobody_dies_without_having_been_asked() -> None:
    # Nothing was heard for a minute because nobody looked: the ping gets its full time first.
    liveness = measured()
    assert liveness.check(60.0) is Verdict.PROBE
    liveness.ping_sent(60.0)
    assert liveness.deadline == 65.0
    assert liveness.check(69.9) is Verdict.WAIT
    assert liveness.check(70.0) is Verdict.DEAD


def test_a_machine_that_slept_asks_its_socket_first() -> None:
    liveness = measured()
    liveness.check(5.25)
    liveness.ping_sent(5.25)
    assert liveness.check(3600.0) is Verdict.WAIT
    assert liveness.deadline == 3605.0
    assert liveness.check(3610.0) is Verdict.DEAD


@given(
    st.lists(st.tuples(st.floats(0.01, 40), st.booleans()), max_size=20),
    st.floats(0, 1),
)
def test_a_dead_peer_is_found_in_time_by_asking_only_when_told(life: list[tuple[float, bool]], lag: float) -> None:
    """The peer says something after each gap, its answers to pings are in time or never come, and then it is silent.
    Whoever asks at each deadline, and no more often, though a little late, finds it dead between 15 s and a bit."""
    liveness = Liveness(CONFIG, 0.0)
    now = heard = 0.0
    asked: int | None = None
    gaps = list(life)
    verdict = Verdict.WAIT
    while verdict is not Verdict.DEAD:
        speaks_at = heard + gaps[0][0] if gaps else math.inf
        if speaks_at <= liveness.deadline:
            now = max(now, speaks_at)
            _, answers = gaps.pop(0)
            heard = liveness.heard = now
            if answers and asked is not None:
                assert liveness.pong_received(asked, now) is not None
                asked = None
            continue
        now = max(now, liveness.deadline) + lag
        verdict = liveness.check(now)
        if verdict is Verdict.PROBE:
            asked = liveness.ping_sent(now)
    silence = now - heard
    assert 15.0 - 1e-6 <= silence <= 15.0 + 3 * lag + 1e-6


def test_a_late_timer_alone_does_not_save_the_dead() -> None:
    liveness = measured()
    liveness.check(5.25)
    liveness.ping_sent(5.25)
    assert liveness.check(16.0) is Verdict.DEAD


def test_a_busy_peer_is_measured_now_and_then() -> None:
    liveness = measured()
    probes = []
    for tenth in range(1, 1000):
        now = tenth / 10
        liveness.heard = now
        if liveness.check(now) is Verdict.PROBE:
            probes.append(now)
            assert liveness.pong_received(liveness.ping_sent(now), now + 0.01) is not None
    assert probes == pytest.approx([30.3, 60.4, 90.5])


def test_only_the_answer_to_the_question_counts() -> None:
    liveness = Liveness(CONFIG, 0.0)
    assert liveness.pong_received(0, 1.0) is None, "nothing was asked"
    value = liveness.ping_sent(1.0)
    assert liveness.is_probing
    assert liveness.pong_received(value + 1, 2.0) is None
    assert liveness.pong_received(value, 3.0) == 2.0
    assert not liveness.is_probing
    assert liveness.pong_received(value, 4.0) is None, "twice"
    assert liveness.rtt == 2.0


def test_values_differ_and_fit_32_bits() -> None:
    liveness = Liveness(CONFIG, 0.0)
    values = {liveness.ping_sent(0.0) for _ in range(1000)}
    assert len(values) == 1000
    assert all(0 <= value <= 0xFFFF_FFFF for value in values)


def test_the_path_is_as_long_as_the_lowest_of_late() -> None:
    liveness = Liveness(CONFIG, 0.0)

    def sample(rtt: float) -> float:
        liveness.pong_received(liveness.ping_sent(0.0), rtt)
        return liveness.path_delay

    assert sample(0.1) == 0.1
    assert sample(3.0) == pytest.approx(0.11), "a queue is not distance"
    assert sample(0.05) == 0.05
    for _ in range(50):
        sample(0.4)
    assert liveness.path_delay == 0.4, "but the path may become longer"


def test_a_clock_that_goes_back_measures_nothing_negative() -> None:
    liveness = Liveness(CONFIG, 10.0)
    assert liveness.pong_received(liveness.ping_sent(10.0), 9.0) == 0.0


def test_the_peer_s_shorter_times_are_taken_over() -> None:
    """A relay that gives up after 2 s and a device that waited 15 s: the device would be out of reach for 13 s."""
    liveness = measured()
    liveness.tighten(0.5, 2.0)
    assert liveness.check(0.5) is Verdict.WAIT
    assert liveness.deadline == pytest.approx(0.75)
    assert liveness.check(0.75) is Verdict.PROBE
    liveness.ping_sent(0.75)
    assert liveness.check(2.2) is Verdict.WAIT
    assert liveness.check(2.25) is Verdict.DEAD


@pytest.mark.parametrize(("probe_interval", "dead_after"), [(50.0, 60.0), (0.0, 1.0), (2.0, 1.0), (math.nan, math.nan)])
def test_longer_times_and_nonsense_are_not(probe_interval: float, dead_after: float) -> None:
    liveness = measured()
    liveness.tighten(probe_interval, dead_after)
    assert liveness.check(5.0) is Verdict.WAIT
    assert liveness.check(5.25) is Verdict.PROBE
    liveness.ping_sent(5.25)
    assert liveness.check(15.0) is Verdict.WAIT
    assert liveness.check(15.25) is Verdict.DEAD
