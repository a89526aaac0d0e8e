from __future__ import annotations

from remote_proxy.tunnels.epochs import EpochSource
from tests.remote_proxy.fakes import FakeClock


def test_epochs_rise_within_one_millisecond() -> None:
    epochs = EpochSource(FakeClock())
    handed_out = [epochs.next() for _ in range(1_000)]
    assert handed_out == sorted(set(handed_out))


def test_epochs_rise_across_a_restart() -> None:
    clock = FakeClock()
    before = [EpochSource(clock).next() for _ in range(3)]
    clock.advance(1.0)
    assert EpochSource(clock).next() > max(before)


def test_epochs_rise_when_the_wall_clock_is_set_back() -> None:
    clock = FakeClock()
    epochs = EpochSource(clock)
    first = epochs.next()
    clock.advance(-3_600.0)
    assert epochs.next() > first


def test_epochs_survive_json() -> None:
    assert EpochSource(FakeClock(wall=4_102_444_800.0)).next() < 2**53
