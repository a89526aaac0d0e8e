"""The order of an agent's dials."""

from __future__ import annotations

import pytest

from common.tunnel.dial import Dial, DialSource


def test_later_dials_of_a_run_come_later() -> None:
    source = DialSource()
    first, second = source.next(), source.next()
    assert first.is_before(second)
    assert not second.is_before(first)
    assert not first.is_before(first)


def test_dials_of_two_runs_have_no_order() -> None:
    first, other = DialSource().next(), DialSource().next()
    assert not first.is_before(other)
    assert not other.is_before(first)
    assert not first.is_before(None)


def test_it_is_read_as_it_was_written() -> None:
    dial = DialSource().next()
    assert Dial.parse(str(dial)) == dial


@pytest.mark.parametrize(
    "text", ["", "1", ".1", "abcdefgh.", "abcdefgh.-1", "abcdefgh.1.2", "short.1", "abcdefgh.1234567890123456", "é" * 9]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"not BOOT\.NUMBER"):
        Dial.parse(text)
