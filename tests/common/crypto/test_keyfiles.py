"""Secrets on disk: who may read them, and that they are written whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from common.crypto.errors import KeyFileError
from common.crypto.keyfiles import (
    check_private,
    ensure_secret,
    new_internal_key,
    read_public,
    read_secret,
    write_public,
    write_secret,
)
from common.secret import Secret

SECRET = "a-secret-that-is-long-enough"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_written_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        write_secret(path, SECRET)
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert read_secret(path) == Secret(SECRET)


def test_a_public_file_is_readable_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0o077)
    try:
        write_public(path, "public")
    finally:
        os.umask(before)
    assert mode(path) == 0o644
    assert read_public(path) == "public"


def test_writing_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(path, SECRET)
    write_secret(path, SECRET + "2")
    assert read_secret(path).reveal() == SECRET + "2"
    assert os.listdir(tmp_path) == ["key"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "occupied").touch()
    with pytest.raises(KeyFileError, match="cannot be written"):
        write_secret(path, SECRET)
    assert os.listdir(tmp_path) == ["folder"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="missing/key cannot be written: No such file"):
        write_secret(tmp_path / "missing" / "key", SECRET)


@pytest.mark.parametrize("wrong", [0o640, 0o604, 0o660, 0o644, 0o610, 0o602, 0o777])
def test_a_secret_that_others_may_touch_is_refused(tmp_path: Path, wrong: int) -> None:
    path = tmp_path / "key"
    write_secret(path, SECRET)
    path.chmod(wrong)
    with pytest.raises(KeyFileError) as caught:
        read_secret(path)
    assert f"{wrong:04o}" in caught.value.detail
    assert f"chmod 600 {path}" in caught.value.detail
    assert SECRET not in caught.value.detail


@pytest.mark.parametrize("right", [0o600, 0o400, 0o700])
def test_a_secret_of_its_owner_is_read(tmp_path: Path, right: int) -> None:
    path = tmp_path / "key"
    write_secret(path, SECRET + "\n")
    path.chmod(right)
    assert read_secret(path).reveal() == SECRET


@pytest.mark.parametrize("wrong", [0o664, 0o646, 0o666])
def test_a_public_file_that_others_may_write_is_refused(tmp_path: Path, wrong: int) -> None:
    path = tmp_path / "key"
    write_public(path, "public")
    path.chmod(wrong)
    with pytest.raises(KeyFileError, match="opens it to other users"):
        read_public(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "fewer than 16 characters"),
        (b"short\n", "fewer than 16 characters"),
        (b"   \n" * 10, "fewer than 16 characters"),
        (b"x" * (64 * 1024 + 1), "larger than 65536 bytes"),
        (b"secret-\xff\xfe-not-text-at-all", "not UTF-8 text"),
    ],
)
def test_what_is_no_key_is_refused_and_not_quoted(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=reason) as caught:
        read_secret(path)
    assert caught.value.__cause__ is None
    assert "secret-" not in str(caught.value)


def make_folder(path: Path) -> None:
    path.mkdir(mode=0o700)


def make_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize("make", [make_folder, make_pipe])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "key"
    make(path)
    with pytest.raises(KeyFileError, match=r"not a regular file|Is a directory"):
        read_secret(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="key cannot be read: No such file"):
        read_secret(tmp_path / "key")


def test_a_mounted_secret_is_read_through_its_link(tmp_path: Path) -> None:
    write_secret(tmp_path / "..data", SECRET)
    (tmp_path / "key").symlink_to("..data")
    assert read_secret(tmp_path / "key").reveal() == SECRET


def test_a_link_to_an_open_file_is_refused(tmp_path: Path) -> None:
    write_public(tmp_path / "open", SECRET)
    (tmp_path / "key").symlink_to("open")
    with pytest.raises(KeyFileError, match="mode 0644"):
        read_secret(tmp_path / "key")


def test_ensure_makes_a_secret_once(tmp_path: Path) -> None:
    first = ensure_secret(tmp_path / "key")
    assert ensure_secret(tmp_path / "key") == first
    assert mode(tmp_path / "key") == 0o600
    assert len(first.reveal()) >= 43


def test_ensure_takes_the_secret_of_whoever_was_first(tmp_path: Path) -> None:
    path = tmp_path / "key"

    def make_while_another_process_does() -> Secret:
        write_secret(path, SECRET)
        return new_internal_key()

    assert ensure_secret(path, make_while_another_process_does).reveal() == SECRET
    assert os.listdir(tmp_path) == ["key"]


def test_ensure_does_not_trust_an_open_file(tmp_path: Path) -> None:
    write_public(tmp_path / "key", SECRET)
    with pytest.raises(KeyFileError):
        ensure_secret(tmp_path / "key")


def test_check_private_takes_a_large_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "homeport.toml"
    write_secret(path, "# " + "x" * 100_000)
    check_private(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError):
        check_private(path)
