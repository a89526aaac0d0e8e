"""What is sealed opens where it belongs and nowhere else: C1."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from common.crypto.envelope import PREFIX_LENGTH, Envelope, SealContext, key_id_of, prefix_of
from common.crypto.errors import KeyMissingError, SealBrokenError
from common.crypto.keyring import Keyring, new_wrapping_key
from common.secret import SecretBytes

KEYRING = Keyring([new_wrapping_key(), new_wrapping_key()])
ENVELOPE = Envelope(KEYRING)
CONTEXT = SealContext(kind="provider_token", team="home", owner="usr_1", name="github", id="tok_1", version=1)
SECRET = b"gho_canary-0123456789"

contexts = st.builds(
    SealContext, kind=st.text(), team=st.text(), owner=st.text(), name=st.text(), id=st.text(), version=st.integers()
)


@given(plaintext=st.binary(), context=contexts)
@example(plaintext=b"", context=CONTEXT)
def test_c1_what_was_sealed_comes_back(plaintext: bytes, context: SealContext) -> None:
    sealed = ENVELOPE.seal(plaintext, context)
    assert ENVELOPE.open(sealed, context) == SecretBytes(plaintext)
    assert sealed.isascii()
    assert sealed.startswith(prefix_of(KEYRING.first.id))
    assert len(prefix_of(KEYRING.first.id)) == PREFIX_LENGTH


@given(context=contexts, other=contexts)
# Fields that run into one another, were they not behind their lengths.
@example(context=replace(CONTEXT, team="ab", owner="c"), other=replace(CONTEXT, team="a", owner="bc"))
@example(context=replace(CONTEXT, id="1", version=11), other=replace(CONTEXT, id="11", version=1))
@example(context=replace(CONTEXT, version=2), other=replace(CONTEXT, version=1))
def test_c1_another_context_opens_nothing(context: SealContext, other: SealContext) -> None:
    assume(context != other)
    sealed = ENVELOPE.seal(SECRET, context)
    with pytest.raises(SealBrokenError):
        ENVELOPE.open(sealed, other)


@pytest.mark.parametrize("field", [field.name for field in fields(SealContext)])
@given(data=st.data())
def test_c1_each_field_of_the_context_counts(field: str, data: st.DataObject) -> None:
    values: st.SearchStrategy[object] = st.integers() if field == "version" else st.text()
    changed = data.draw(values.filter(lambda value: value != getattr(CONTEXT, field)))
    with pytest.raises(SealBrokenError):
        ENVELOPE.open(ENVELOPE.seal(SECRET, CONTEXT), replace(CONTEXT, **{field: changed}))


def test_c1_two_records_that_were_swapped_do_not_open() -> None:
    of_ada, of_bob = replace(CONTEXT, owner="usr_ada", id="tok_a"), replace(CONTEXT, owner="usr_bob", id="tok_b")
    sealed_ada, sealed_bob = ENVELOPE.seal(b"of ada", of_ada), ENVELOPE.seal(b"of bob", of_bob)
    for sealed, context in ((sealed_ada, of_bob), (sealed_bob, of_ada)):
        with pytest.raises(SealBrokenError):
            ENVELOPE.open(sealed, context)


def test_c1_nor_does_the_payload_of_one_with_the_key_of_another() -> None:
    """Neither context is wrong here: what keeps them apart is that each has a key of its own."""
    first, second = ENVELOPE.seal(SECRET, CONTEXT), ENVELOPE.seal(SECRET, CONTEXT)
    assert first != second
    mixed = f"{first.rpartition('.')[0]}.{second.rpartition('.')[2]}"
    with pytest.raises(SealBrokenError):
        ENVELOPE.open(mixed, CONTEXT)


def test_c1_an_older_version_put_back_does_not_open() -> None:
    old = ENVELOPE.seal(b"old token", CONTEXT)
    with pytest.raises(SealBrokenError):
        ENVELOPE.open(old, replace(CONTEXT, version=2))


SEALED = ENVELOPE.seal(SECRET, CONTEXT)


@given(position=st.integers(0, len(SEALED) - 1), bit=st.integers(0, 7))
@example(position=len(SEALED) - 1, bit=0)  # bits of base64 that mean nothing
@example(position=len(SEALED) - 1, bit=1)
def test_c1_a_flipped_bit_is_noticed(position: int, bit: int) -> None:
    altered = SEALED[:position] + chr(ord(SEALED[position]) ^ (1 << bit)) + SEALED[position + 1 :]
    with pytest.raises((SealBrokenError, KeyMissingError)):  # the second where the id of the key was hit
        ENVELOPE.open(altered, CONTEXT)


def test_c1_every_single_character_matters() -> None:
    for position, character in enumerate(SEALED):
        altered = SEALED[:position] + ("A" if character != "A" else "B") + SEALED[position + 1 :]
        with pytest.raises((SealBrokenError, KeyMissingError)):
            ENVELOPE.open(altered, CONTEXT)


@given(length=st.integers(0, len(SEALED) - 1))
def test_c1_a_truncated_text_does_not_open(length: int) -> None:
    with pytest.raises(SealBrokenError):
        ENVELOPE.open(SEALED[:length], CONTEXT)


@given(text=st.text())
@example(text=SEALED + ".")
@example(text=SEALED + "=")
@example(text=SEALED + " ")
@example(text=SEALED.replace("hpe1", "hpe2"))
@example(text="hpe1.kek-0000000000000000..")
def test_any_text_is_refused_in_the_same_way(text: str) -> None:
    with pytest.raises((SealBrokenError, KeyMissingError)) as caught:
        ENVELOPE.open(text, CONTEXT)
    assert SECRET.decode() not in str(caught.value)


def test_c2_after_rewrapping_the_payload_is_the_same_under_the_new_key() -> None:
    newer = Envelope(KEYRING.with_first(new_wrapping_key()))
    rewrapped = newer.rewrap(SEALED)
    assert key_id_of(rewrapped) == newer.keyring.first.id
    assert rewrapped.rpartition(".")[2] == SEALED.rpartition(".")[2]
    assert newer.open(rewrapped, CONTEXT) == newer.open(SEALED, CONTEXT) == SecretBytes(SECRET)
    assert newer.rewrap(rewrapped) == rewrapped


def test_the_wrapped_key_is_bound_to_the_id_in_the_header() -> None:
    one, two = KEYRING.keys
    assert one.key != two.key
    moved = SEALED.replace(one.id, two.id)
    with pytest.raises(SealBrokenError):
        ENVELOPE.rewrap(moved)


def test_c2_without_its_key_it_says_which_one_is_missing() -> None:
    other = Envelope(Keyring([new_wrapping_key()]))
    for act in (lambda: other.open(SEALED, CONTEXT), lambda: other.rewrap(SEALED)):
        with pytest.raises(KeyMissingError, match=KEYRING.first.id) as caught:
            act()
        assert caught.value.key_id == KEYRING.first.id


def test_c8_nothing_about_it_shows_what_is_secret() -> None:
    opened = ENVELOPE.open(SEALED, CONTEXT)
    shown = f"{opened} {opened!r} {opened:s} {ENVELOPE!r} {KEYRING!r} {KEYRING.first!r} {opened.text()}"
    assert "canary" not in shown
    assert str(KEYRING.first.key.reveal()) not in shown


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        ENVELOPE.seal(bytes(1024 * 1024 + 1), CONTEXT)
