"""The bytes of /bytes/{n}: a fixed sequence, of which every answer is a part."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.demo.keystream import keystream

WHOLE = b"".join(keystream(0, 400_000))


def test_is_this_sequence_in_every_version() -> None:
    assert WHOLE[:16].hex() == "5e19a9b3f6a1bcfc737990d61b94f6f2"
    assert hashlib.sha256(WHOLE).hexdigest() == "579b346fde819bd7f1faba9c3742037a899b9e8bd9e0d5c1a4f3825f36d133c3"


def test_has_the_asked_length() -> None:
    assert len(WHOLE) == 400_000
    assert list(keystream(7, 7)) == []


def test_no_two_blocks_are_alike() -> None:
    blocks = [WHOLE[at : at + 16] for at in range(0, len(WHOLE), 16)]
    assert len(set(blocks)) == len(blocks)


@given(st.tuples(st.integers(0, 400_000), st.integers(0, 400_000)).map(sorted))
def test_a_part_is_that_part_of_the_whole(span: list[int]) -> None:
    start, stop = span
    assert b"".join(keystream(start, stop)) == WHOLE[start:stop]


@pytest.mark.parametrize("offset", [2**31, 2**32 - 1, 2**63])
def test_far_offsets_go_on_without_a_seam(offset: int) -> None:
    around = b"".join(keystream(offset - 40, offset + 40))
    assert b"".join(keystream(offset - 40, offset)) + b"".join(keystream(offset, offset + 40)) == around
