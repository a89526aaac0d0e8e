"""What is remembered, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.gateway.memo import Memo, sounds_secret


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


def test_a_generation_of_many_bytes_turns() -> None:
    memo: Memo[int] = Memo(max_bytes=10)
    for number in range(10):
        memo.put(b"%04d" % number, number)
    assert [number for _, number in memo.items()] == [6, 7, 8, 9]


@given(keys=st.lists(st.binary(min_size=1, max_size=9), max_size=100))
def test_the_bounds_hold_whatever_is_asked_for_and_put(keys: list[bytes]) -> None:
    memo: Memo[int] = Memo(max_entries=5, max_bytes=20)
    for key in keys:
        if memo.get(key) is None:
            memo.put(key, 0)
        assert len(memo) <= 2 * 5
        assert sum(len(key) for key, _ in memo.items()) <= 2 * 20


def test_a_long_key_is_not_remembered() -> None:
    memo: Memo[int] = Memo(max_key=3)
    memo.put(b"1234", 1)
    assert memo.get(b"1234") is None


@pytest.mark.parametrize(
    "name",
    (
        b"Authorization Proxy-Authorization Cookie Set-Cookie X-API-Key X_Api_Key apikey X-Auth-Token X-CSRFToken "
        b"X-Amz-Security-Token X-Session-Id Password Referer X-Forwarded-For X-Goog-Signature X-Remote-User "
        b"X-Request-ID traceparent"
    ).split(),
)
def test_what_sounds_of_a_secret_or_of_somebody(name: bytes) -> None:
    assert sounds_secret([b"Accept", name.lower(), b"Host"])
    assert sounds_secret([name.upper()])


def test_what_does_not() -> None:
    names = [b"Host", b"User-Agent", b"Accept", b"Accept-Encoding", b"Connection", b"Content-Length", b"Content-Type"]
    names += [b"Keep-Alive", b"WWW-Authenticate", b"Date", b"ETag", b"Server", b"Last-Modified", b"Cache-Control"]
    assert not sounds_secret(names)


@given(keys=st.lists(st.binary(min_size=1, max_size=2), max_size=200))
def test_what_is_remembered_is_what_was_put(keys: list[bytes]) -> None:
    memo: Memo[bytes] = Memo(max_entries=4)
    for key in keys:
        assert memo.get(key) in (None, key)
        memo.put(key, key)
        assert memo.get(key) == key
