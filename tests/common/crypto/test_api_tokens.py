"""API tokens: shape, checksum, hash."""

from __future__ import annotations

import re
import string
import zlib

from hypothesis import example, given
from hypothesis import strategies as st

from common.crypto.api_tokens import checksum_holds, hash_token, new_api_token, start
from common.secret import Secret

ALPHABET = string.digits + string.ascii_letters
ZEROS = "hp_" + "0" * 43 + "3BZBqH"
"""The token of 32 zero bytes."""


def test_a_token_is_the_prefix_43_random_characters_and_6_of_checksum() -> None:
    token = new_api_token().reveal()
    assert re.fullmatch(r"hp_[0-9A-Za-z]{49}", token)
    assert checksum_holds(token)
    assert new_api_token() != new_api_token()


def test_the_checksum_of_a_known_token() -> None:
    assert checksum_holds(ZEROS)
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    checksum = 0
    for character in ZEROS[46:]:
        checksum = checksum * 62 + digits.index(character)
    assert checksum == zlib.crc32(ZEROS[:46].encode())


@given(position=st.integers(3, 51), character=st.sampled_from(ALPHABET))
def test_one_changed_character_breaks_the_checksum(position: int, character: str) -> None:
    token = new_api_token().reveal()
    changed = token[:position] + character + token[position + 1 :]
    assert checksum_holds(changed) == (changed == token)


@given(position=st.integers(3, 50))
def test_two_swapped_characters_break_the_checksum(position: int) -> None:
    token = new_api_token().reveal()
    swapped = token[:position] + token[position + 1] + token[position] + token[position + 2 :]
    assert checksum_holds(swapped) == (swapped == token)


@given(st.text())
@example("")
@example("hp_")
@example("hp_" + "ä" * 49)
@example("hp_" + "٣" * 49)  # digits, but not ASCII
@example("hp_" + "0" * 49 + "\n")
@example("hpp_" + "0" * 48)
@example("hp_" + "0" * 100_000)
def test_no_text_is_a_token_by_chance(text: str) -> None:
    assert not checksum_holds(text)


@given(st.integers(0, 51))
def test_a_cut_token_is_none(length: int) -> None:
    assert not checksum_holds(new_api_token().reveal()[:length])


def test_a_hash_depends_on_key_and_token() -> None:
    token, other, key = new_api_token(), new_api_token(), b"k" * 32
    assert len(hash_token(key, token)) == 32
    assert hash_token(key, token) == hash_token(key, Secret(token.reveal()))
    assert len({hash_token(key, token), hash_token(key, other), hash_token(b"l" * 32, token)}) == 3


def test_the_start_gives_little_away() -> None:
    token = new_api_token()
    assert token.reveal().startswith(start(token))
    assert len(start(token)) == 9
