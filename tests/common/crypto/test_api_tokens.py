"""API tokens: shape, checksum, hash."""

from __future__ import annotations

import re
import string
import zlib

from hypothesis import example, given
from hypothesis import strategies as st

from common.crypto.api_tokens import (
    INVITATION_TOKEN_PREFIX,
    PAIRING_TOKEN_PREFIX,
    checksum_holds,
    hash_token,
    new_api_token,
    new_token,
    start,
    stored_hash,
)
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


def test_a_token_of_another_kind_is_none_of_ours() -> None:
    pairing = new_token(PAIRING_TOKEN_PREFIX)
    assert re.fullmatch(r"hpp_[0-9A-Za-z]{49}", pairing.reveal())
    assert start(pairing) == pairing.reveal()[:10]
    assert checksum_holds(pairing.reveal(), PAIRING_TOKEN_PREFIX)
    assert not checksum_holds(pairing.reveal())
    assert not checksum_holds(pairing.reveal(), INVITATION_TOKEN_PREFIX)


def test_the_stored_hash_is_the_same_in_every_process() -> None:
    assert stored_hash(Secret(ZEROS)) == "eb17bff53003aaac947cc7121cf87b08bfdc92baa438749f357c64bb8edbdba5"
