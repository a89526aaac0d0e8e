"""The keyring and its file: C2."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.crypto.envelope import Envelope, SealContext
from common.crypto.errors import KeyFileError, KeyMissingError
from common.crypto.keyring import (
    Keyring,
    KeyringFile,
    add_key,
    ensure_keyring,
    forget_key,
    new_wrapping_key,
    prepare_key,
    retire_keys,
)
from common.secret import Secret

CONTEXT = SealContext(kind="k", team="t", owner="o", name="n", id="i", version=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A keyring of one key."""
    ensure_keyring(tmp_path / "keyring.json")
    return tmp_path / "keyring.json"


def test_a_fresh_one_is_for_its_owner_alone_and_stays(path: Path) -> None:
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ensure_keyring(path)
    assert path.read_bytes() == content
    assert len(Keyring.from_file(path).keys) == 1


def test_what_is_sealed_before_a_new_key_opens_after_it(path: Path) -> None:
    sealed = Envelope(Keyring.from_file(path)).seal(b"x", CONTEXT)
    (old,) = Keyring.from_file(path).ids
    new = add_key(path)
    keyring = Keyring.from_file(path)
    assert keyring.ids == (new, old)
    assert keyring.first.id == new
    assert Envelope(keyring).open(sealed, CONTEXT).reveal() == b"x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_retired_key_opens_and_wraps_no_more_until_it_is_forgotten(path: Path) -> None:
    sealed = Envelope(Keyring.from_file(path)).seal(b"x", CONTEXT)
    (old,) = Keyring.from_file(path).ids
    with pytest.raises(KeyFileError, match="not retired"):
        forget_key(path, old)
    with pytest.raises(KeyFileError, match="add another one first"):
        retire_keys(path, [old])
    new = add_key(path)
    retire_keys(path, [old])
    keyring = Keyring.from_file(path)
    assert ([key.id for key in keyring.keys], [key.id for key in keyring.retired]) == ([new], [old])
    assert Envelope(keyring).open(sealed, CONTEXT).reveal() == b"x"
    forget_key(path, old)
    with pytest.raises(KeyMissingError, match=old):
        Envelope(Keyring.from_file(path)).open(sealed, CONTEXT)
    with pytest.raises(KeyMissingError):
        forget_key(path, old)


def test_c2_a_prepared_key_opens_before_it_wraps(path: Path) -> None:
    """Where processes have copies of the file: no moment in which one seals what another cannot open."""
    (old,) = Keyring.from_file(path).ids
    prepared = prepare_key(path)
    elsewhere = Envelope(Keyring.from_file(path))  # a copy of the file, as it is now
    assert elsewhere.keyring.first.id == old
    with pytest.raises(KeyFileError, match="not retired"):
        forget_key(path, prepared)
    assert add_key(path) == prepared
    here = Envelope(Keyring.from_file(path))
    assert here.keyring.first.id == prepared
    assert elsewhere.open(here.seal(b"x", CONTEXT), CONTEXT).reveal() == b"x"
    assert here.open(elsewhere.seal(b"y", CONTEXT), CONTEXT).reveal() == b"y"
    assert add_key(path) not in (old, prepared)


def test_the_signing_key_stays_when_the_others_change_and_is_added_where_there_is_none(path: Path) -> None:
    signing = Keyring.from_file(path).signing
    (old,) = Keyring.from_file(path).ids
    add_key(path)
    retire_keys(path, [old])
    forget_key(path, old)
    assert signing is not None
    assert Keyring.from_file(path).signing == signing
    document = json.loads(path.read_text())
    del document["signing"]
    path.write_text(json.dumps(document))
    assert Keyring.from_file(path).signing is None
    ensure_keyring(path)
    made = Keyring.from_file(path)
    assert made.signing not in (None, signing)
    assert made.ids == (document["keys"][0]["id"],)


def test_a_process_sees_a_new_key_at_once(path: Path) -> None:
    running = Envelope(KeyringFile(path))
    before = running.seal(b"before", CONTEXT)
    new = add_key(path)
    elsewhere = Envelope(Keyring.from_file(path)).seal(b"elsewhere", CONTEXT)
    assert running.open(elsewhere, CONTEXT).reveal() == b"elsewhere"
    assert running.keyring.first.id == new
    assert running.open(before, CONTEXT).reveal() == b"before"


def test_a_broken_file_does_not_take_the_keys_from_a_process(path: Path) -> None:
    keys = KeyringFile(path)
    before = keys.current()
    good = path.read_text()
    for break_it in (lambda: path.write_text("{"), lambda: path.chmod(0o644), path.unlink):
        break_it()
        assert keys.current() is before
    assert keys.broken is not None
    path.write_text(good)
    path.chmod(0o600)
    assert keys.current().ids == before.ids
    assert keys.broken is None


def test_changes_at_once_lose_no_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        added = list(threads.map(lambda _: add_key(path), range(8)))
    assert set(added) <= set(Keyring.from_file(path).ids)


def test_two_processes_that_make_one_at_once_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: (ensure_keyring(path), path.read_bytes())[1], range(8)))
    assert len(made) == 1


def _without_key(document: dict[str, list[dict[str, str]]]) -> object:
    return {"keys": []}


def _twice(document: dict[str, list[dict[str, str]]]) -> object:
    return {"keys": document["keys"] * 2}


def _short(document: dict[str, list[dict[str, str]]]) -> object:
    return {"keys": [{**document["keys"][0], "key": document["keys"][0]["key"][:-4]}]}


def _no_base64(document: dict[str, list[dict[str, str]]]) -> object:
    return {"keys": [{**document["keys"][0], "key": "!" + document["keys"][0]["key"][1:]}]}


def _other_id(document: dict[str, list[dict[str, str]]]) -> object:
    return {"keys": [{**document["keys"][0], "id": "../../etc/passwd"}]}


def _more(document: dict[str, list[dict[str, str]]]) -> object:
    return {**document, "more": document["keys"]}


def _too_many(document: dict[str, list[dict[str, str]]]) -> object:
    return {"keys": [json.loads(Keyring([new_wrapping_key()]).dump().reveal())["keys"][0] for _ in range(65)]}


@pytest.mark.parametrize("alter", [_without_key, _twice, _short, _no_base64, _other_id, _more, _too_many])
def test_what_is_no_keyring_is_refused_without_being_shown(
    path: Path, alter: Callable[[dict[str, list[dict[str, str]]]], object]
) -> None:
    document = json.loads(path.read_text())
    with pytest.raises(KeyFileError) as caught:
        Keyring.parse(Secret(json.dumps(alter(document))), str(path))
    assert str(path) in caught.value.detail
    assert document["keys"][0]["key"][:20] not in repr(caught.value)


def test_one_that_others_may_read_is_refused(path: Path) -> None:
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Keyring.from_file(path)


def test_c2_one_that_is_missing_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="homeport keys init"):
        Keyring.from_file(tmp_path / "keyring.json")


def test_nothing_is_left_beside_it_but_the_lock(path: Path) -> None:
    add_key(path)
    assert sorted(os.listdir(path.parent)) == [".keyring.json.lock", "keyring.json"]
