"""What is remembered, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api_server.gateway.memo import Memo


def test_what_is_asked_for_stays_and_the_rest_goes_after_two_turns() -> None:
    memo: Memo[int] = Memo()
    memo.put(b"used", 1)
    memo.put(b"unused", 2)
    for _ in range(5):
        memo.turn()
        assert memo.get(b"used") == 1
    assert memo.get(b"unused") is None


def test_a_turn_alone_forgets_nothing() -> None:
    memo: Memo[int] = Memo()
    memo.put(b"key", 1)
    memo.turn()
    assert memo.get(b"key") == 1


def test_a_full_generation_turns() -> None:
    memo: Memo[int] = Memo(max_entries=2)
    for number in range(5):
        memo.put(b"%d" % number, number)
    assert [memo.get(b"%d" % number) for number in range(5)] == [None, None, 2, 3, 4]


def test_a_long_key_is_not_remembered() -> None:
    memo: Memo[int] = Memo(max_key=3)
    memo.put(b"1234", 1)
    assert memo.get(b"1234") is None


@given(keys=st.lists(st.binary(min_size=1, max_size=2), max_size=200))
def test_what_is_remembered_is_what_was_put(keys: list[bytes]) -> None:
    memo: Memo[bytes] = Memo(max_entries=4)
    for key in keys:
        assert memo.get(key) in (None, key)
        memo.put(key, key)
        assert memo.get(key) == key
