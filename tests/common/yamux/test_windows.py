"""Flow control: each numbered case of the docstrings, and invariants under anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.yamux import INITIAL_WINDOW, LocalProtocolError, MemoryBudget
from common.yamux.windows import LEAST_DELAY, ReceiveWindow, SendWindow, least_delay

KIB = 1024
MIB = 1024 * KIB
PLENTY = 1 << 40


def receive_window(
    *, initial: int = INITIAL_WINDOW, limit: int = 8 * MIB, budget: MemoryBudget | None = None
) -> ReceiveWindow:
    return ReceiveWindow(initial, limit, budget or MemoryBudget(PLENTY), 0.0)


def half(window: ReceiveWindow, now: float, round_trip: float = 0.0) -> int:
    """Receive and consume half of the window, and take the grant."""
    n = window.size // 2
    assert window.received(n)
    assert window.consumed(n)
    return window.grant(now, round_trip)


def whole(window: ReceiveWindow, now: float, round_trip: float = 0.0) -> int:
    """All of it, in two halves at once."""
    return half(window, now, round_trip) + half(window, now, round_trip)


class TestSendWindow:
    def test_case_1_it_starts_at_256_kib(self) -> None:
        assert SendWindow().available == 262144

    def test_case_3_grants_add_up_to_32_bits(self) -> None:
        window = SendWindow()
        assert window.granted(0xFFFF_FFFF - 262144)
        assert window.available == 0xFFFF_FFFF
        assert not window.granted(1)
        assert window.available == 0xFFFF_FFFF
        assert window.granted(0)


class TestReceiveWindow:
    def test_case_1_a_larger_initial_window_owes_the_rest(self) -> None:
        budget = MemoryBudget(PLENTY)
        window = receive_window(initial=MIB, budget=budget)
        assert (window.available, window.owed, window.size) == (256 * KIB, 768 * KIB, MIB)
        assert budget.used == 768 * KIB
        assert window.initial_grant() == 768 * KIB
        assert (window.available, window.owed) == (MIB, 0)

    def test_case_1_without_budget_it_is_256_kib(self) -> None:
        window = receive_window(initial=MIB, budget=MemoryBudget(512 * KIB))
        assert window.size == 256 * KIB
        assert window.initial_grant() == 0

    def test_case_2_an_overrun_changes_nothing(self) -> None:
        window = receive_window()
        assert window.received(256 * KIB)
        assert not window.received(1)
        assert (window.available, window.unconsumed) == (0, 256 * KIB)

    def test_case_3_no_more_is_consumed_than_received(self) -> None:
        window = receive_window()
        window.received(10)
        for wrong in (11, -1):
            with pytest.raises(LocalProtocolError):
                window.consumed(wrong)
        window.consumed(10)
        with pytest.raises(LocalProtocolError, match="1 bytes consumed, but 0"):
            window.consumed(1)
        window.consumed(0)

    def test_case_4_credit_is_due_at_128_kib_or_a_quarter(self) -> None:
        for initial, due in ((256 * KIB, 128 * KIB), (512 * KIB, 128 * KIB), (MIB, 256 * KIB), (8 * MIB, 2 * MIB)):
            window = receive_window(initial=initial)
            window.initial_grant()
            window.received(initial)
            assert not window.consumed(due - 1)
            assert window.consumed(1)
            assert window.consumed(0)
            assert window.grant(10.0, 0.0) == due
            assert (window.available, window.owed, window.unconsumed) == (due, 0, initial - due)

    def test_case_5_a_window_used_up_within_two_round_trips_doubles(self) -> None:
        window = receive_window()
        assert half(window, now=0.09, round_trip=0.1) == 128 * KIB
        assert half(window, now=0.19, round_trip=0.1) == 128 * KIB + 256 * KIB
        assert window.size == 512 * KIB

    def test_case_5_a_slower_one_does_not(self) -> None:
        window = receive_window()
        half(window, now=0.10, round_trip=0.1)
        assert half(window, now=0.21, round_trip=0.1) == 128 * KIB
        assert window.size == 256 * KIB

    def test_case_5_the_time_counts_from_the_last_measurement(self) -> None:
        window = receive_window()
        for now in (0.15, 0.30, 0.45):
            half(window, now, round_trip=0.1)
        assert window.size == 256 * KIB
        half(window, 0.49, round_trip=0.1)
        assert window.size == 512 * KIB

    def test_case_5_idleness_does_not_count(self) -> None:
        window = receive_window()
        half(window, 0.1, round_trip=0.1)
        half(window, 100.0, round_trip=0.1)
        half(window, 100.09, round_trip=0.1)
        assert window.size == 256 * KIB, "that was half a window"
        half(window, 100.19, round_trip=0.1)
        assert window.size == 512 * KIB

    def test_case_5_a_slow_reader_does_not_grow_by_its_bursts(self) -> None:
        # It takes a whole window in a moment, each second: the path is not what holds it back.
        window = receive_window()
        for second in range(1, 100):
            half(window, float(second), round_trip=0.1)
            half(window, second + 0.001, round_trip=0.1)
        assert window.size == 256 * KIB

    def test_case_5_without_a_round_trip_the_least_delay_counts(self) -> None:
        slow = receive_window()
        whole(slow, now=2 * LEAST_DELAY * 1.01)
        fast = receive_window()
        whole(fast, now=2 * LEAST_DELAY * 0.99)
        assert (slow.size, fast.size) == (256 * KIB, 512 * KIB)

    def test_case_5_an_ample_window_takes_a_path_as_short_as_it_is(self) -> None:
        # 800 MiB/s at a round trip of 0.2 ms: 1 MiB is six times what is in flight, the rest would lie in queues.
        window = receive_window()
        now = 0.0
        for _ in range(100):
            now += window.size / (800 * MIB)
            whole(window, now, round_trip=0.0002)
        assert window.size == MIB * 2

    def test_case_5_an_ample_window_grows_on_a_long_path(self) -> None:
        window = receive_window()
        now = 0.0
        for _ in range(100):
            now += max(window.size / (800 * MIB), 0.1)
            whole(window, now, round_trip=0.1)
        assert window.size == 8 * MIB

    def test_case_5_growth_ends_at_the_limit(self) -> None:
        window = receive_window(limit=3 * MIB)
        for _ in range(10):
            whole(window, 0.0)
        assert window.size == 3 * MIB

    def test_case_5_growth_ends_at_the_budget_of_the_session_and_of_the_process(self) -> None:
        for session, process in ((1300 * KIB, PLENTY), (PLENTY, 1300 * KIB)):
            window = receive_window(budget=MemoryBudget(session, parent=MemoryBudget(process)))
            for _ in range(10):
                whole(window, 0.0)
            assert window.size == MIB

    def test_case_6_under_pressure_a_window_above_its_share_is_halved(self) -> None:
        budget = MemoryBudget(8 * MIB)
        first, second, third = (receive_window(budget=budget) for _ in range(3))
        for _ in range(6):
            whole(first, 0.0)
        assert first.size == 4 * MIB, "the next doubling would leave nothing for who comes next"
        for _ in range(6):
            whole(second, 0.0)
        assert second.size == 2 * MIB
        for _ in range(6):
            whole(third, 0.0)
        assert third.size == 2 * MIB
        assert budget.is_excessive(first.size - 256 * KIB)
        assert half(first, 1.0) == 0, "what was used is kept"
        assert first.size == 2 * MIB
        assert half(first, 2.0) == MIB
        assert budget.used == 3 * (2 * MIB - 256 * KIB)

    def test_case_6_under_pressure_a_window_within_its_share_stays(self) -> None:
        budget = MemoryBudget(16 * MIB)
        window = receive_window(initial=4 * MIB, budget=budget)
        window.initial_grant()
        for _ in range(2):
            assert budget.reserve(4608 * KIB, held=0)
        assert budget.share == 4 * MIB
        assert budget.is_excessive(4 * MIB + 1)
        half(window, 1.0)
        assert window.size == 4 * MIB

    @pytest.mark.parametrize("size", [300_000, 512 * KIB, 900_000])
    def test_case_6_pressure_brings_no_window_below_256_kib(self, size: int) -> None:
        budget = MemoryBudget(MIB)
        window = receive_window(initial=size, budget=budget)
        window.initial_grant()
        for now in range(5, 10):
            while budget.reserve(16 * KIB, held=0):  # others take what is left
                pass
            whole(window, now)
        assert window.size == 256 * KIB

    def test_case_7_the_end_releases(self) -> None:
        process = MemoryBudget(PLENTY)
        budget = MemoryBudget(PLENTY, parent=process)
        window = receive_window(budget=budget)
        whole(window, 0.0)
        assert (budget.used, budget.holders, process.used, process.holders) == (256 * KIB, 1, 256 * KIB, 1)
        window.release()
        assert (budget.used, budget.holders, process.used, process.holders) == (0, 0, 0, 0)

    def test_it_explains_itself(self) -> None:
        window = receive_window()
        window.received(100)
        window.consumed(60)
        assert repr(window) == "<ReceiveWindow 262144: 262044 granted, 40 unconsumed, 60 owed>"


class TestMemoryBudget:
    def test_all_or_nothing_up_the_tree(self) -> None:
        process = MemoryBudget(100)
        sessions = [MemoryBudget(90, parent=process) for _ in range(2)]
        assert sessions[0].reserve(60, held=0)
        assert not sessions[1].reserve(60, held=0)
        assert (sessions[1].used, sessions[1].holders, process.used, process.holders) == (0, 0, 60, 1)
        assert sessions[1].reserve(40, held=0)
        assert (process.used, process.holders) == (100, 2)
        sessions[0].release(60, held=60)
        assert (process.used, process.holders, sessions[0].holders) == (40, 1, 0)
        sessions[1].release(10, held=40)
        assert (process.used, process.holders, sessions[1].holders) == (30, 1, 1)

    def test_the_last_quarter_is_for_those_below_their_share(self) -> None:
        budget = MemoryBudget(100)
        assert budget.reserve(75, held=0)
        assert not budget.reserve(1, held=75)
        assert budget.reserve(25, held=0)
        assert budget.share == 33
        assert budget.is_excessive(75)
        assert not budget.is_excessive(25)

    def test_pressure_is_seen_from_below(self) -> None:
        process = MemoryBudget(100)
        session = MemoryBudget(1000, parent=process)
        session.reserve(60, held=0)
        assert not session.is_excessive(60)
        process.reserve(40, held=0)
        assert session.is_excessive(60)

    def test_a_budget_of_nothing_grants_nothing(self) -> None:
        assert not MemoryBudget(0).reserve(1, held=0)

    def test_it_explains_itself(self) -> None:
        budget = MemoryBudget(1000)
        budget.reserve(300, held=0)
        assert repr(budget) == "<MemoryBudget 300 of 1000 bytes, 1 holders>"


class WindowMachine(RuleBasedStateMachine):
    """Windows that share budgets, under any order of calls: the sums hold, and no budget is overdrawn."""

    @initialize(session=st.integers(0, 4 * MIB), process=st.integers(0, 4 * MIB))
    def start(self, session: int, process: int) -> None:
        self.process = MemoryBudget(process)
        self.budgets = [MemoryBudget(session, parent=self.process) for _ in range(2)]
        self.windows: list[ReceiveWindow] = []
        self.now = 0.0

    @precondition(lambda self: len(self.windows) < 6)
    @rule(which=st.integers(0, 1), initial=st.sampled_from([256 * KIB, 300_000, MIB]))
    def open(self, which: int, initial: int) -> None:
        window = ReceiveWindow(initial, 2 * MIB, self.budgets[which], self.now)
        window.initial_grant()
        self.windows.append(window)

    @precondition(lambda self: self.windows)
    @rule(which=st.integers(0, 5), share=st.floats(0, 1.2), now=st.floats(0, 0.1), round_trip=st.floats(0, 0.2))
    def use(self, which: int, share: float, now: float, round_trip: float) -> None:
        window = self.windows[which % len(self.windows)]
        self.now += now
        n, had = int(window.available * share), window.available
        assert window.received(n) is (n <= had)
        if window.consumed(int(window.unconsumed * min(share, 1.0))):
            before = window.available
            grant = window.grant(self.now, round_trip)
            assert grant >= 0
            assert window.available == before + grant
            assert window.owed == 0

    @precondition(lambda self: self.windows)
    @rule(which=st.integers(0, 5))
    def close(self, which: int) -> None:
        self.windows.pop(which % len(self.windows)).release()

    @invariant()
    def sums(self) -> None:
        for window in self.windows:
            assert min(window.available, window.owed, window.unconsumed) >= 0
            assert 256 * KIB <= window.size <= 2 * MIB
        for budget in (self.process, *self.budgets):
            assert 0 <= budget.used <= budget.total
        grown = [window.size - 256 * KIB for window in self.windows]
        assert self.process.used == sum(grown) == sum(budget.used for budget in self.budgets)
        assert self.process.holders == sum(extra > 0 for extra in grown)


TestWindowMachine = WindowMachine.TestCase


@given(st.integers(0, 300_000), st.integers(0, 300_000))
def test_receive_then_consume_in_one_go(received: int, consumed: int) -> None:
    window = receive_window()
    took = window.received(received)
    assert took is (received <= 256 * KIB)
    if consumed <= (received if took else 0):
        assert window.consumed(consumed) is (consumed >= 128 * KIB)
    else:
        with pytest.raises(LocalProtocolError):
            window.consumed(consumed)
    assert window.size == window.available + window.unconsumed + window.owed


@pytest.mark.parametrize("path_mib", [1, 10, 80])
@pytest.mark.parametrize("round_trip", [0.01, 0.1, 0.3])
def test_a_bulk_stream_learns_the_path(path_mib: int, round_trip: float) -> None:
    """A path of so many MiB/s and such a round trip, simulated by grants: the window comes to hold at least what is in
    flight on it, and no more than four times that (or than what would be at `LEAST_DELAY`)."""
    window = receive_window(limit=64 * MIB)
    now = 0.0
    for _ in range(200):
        n = window.size // 2
        # As fast as the path, or as the window lets it, whichever is slower.
        now += max(n / (path_mib * MIB), n / window.size * round_trip)
        half(window, now, round_trip)
    in_flight = path_mib * MIB * round_trip
    assert window.size >= min(in_flight, 64 * MIB)
    most = min(MIB, 4 * path_mib * MIB * max(round_trip, LEAST_DELAY))
    assert window.size <= max(4 * path_mib * MIB * max(round_trip, least_delay(MIB)), most, 256 * KIB)
