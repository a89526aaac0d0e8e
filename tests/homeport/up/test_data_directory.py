"""The folder that outlives `homeport up`."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from common.crypto.api_tokens import checksum_holds
from common.crypto.errors import KeyFileError
from homeport.run_file import RUN_FILE, Run, read_run_file
from homeport.up.data_directory import DataDirectory
from homeport.up.errors import DataDirectoryError, DataDirectoryInUseError

RUN = Run(
    api="http://127.0.0.1:1",
    gateway="http://127.0.0.1:2",
    tunnel="ws://127.0.0.1:3/tunnel",
    internal="http://127.0.0.1:4",
    issuer=None,
    pid=5,
    team="home",
    demo_device="demo",
    demo_service="demo",
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_for_their_owner_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        directory = DataDirectory(tmp_path / "a" / "b")
        directory.make_keys()
        directory.write_demo_token("eyJ")
    finally:
        os.umask(before)
    assert mode_of(directory.path) == 0o700
    assert mode_of(directory.demo) == 0o700
    for secret in (directory.internal_key, directory.signing_keys, directory.admin_token, directory.demo_token):
        assert mode_of(secret) == 0o600, secret


def test_keys_and_token_stay(tmp_path: Path) -> None:
    first = DataDirectory(tmp_path).make_keys()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert DataDirectory(tmp_path).make_keys() == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert checksum_holds(first.reveal())


def test_a_token_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    DataDirectory(tmp_path).make_keys()
    (tmp_path / "admin-token").chmod(0o644)
    with pytest.raises(KeyFileError, match=r"mode 0644.*chmod 600"):
        DataDirectory(tmp_path).make_keys()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError, match=r"cannot be made: Not a directory; name another by --data-dir"):
        DataDirectory(tmp_path / "file" / "x")


def test_a_second_supervisor_is_told_of_the_first(tmp_path: Path) -> None:
    holder = """
import sys
from pathlib import Path
from homeport.up.data_directory import DataDirectory
with DataDirectory(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with (
            pytest.raises(DataDirectoryInUseError, match=rf"process {process.pid}\) uses"),
            DataDirectory(tmp_path).lock(),
        ):
            raise AssertionError("locked twice")
        process.kill()
    with DataDirectory(tmp_path).lock():  # the system dropped the lock with its process
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_the_run_file_of_a_killed_supervisor_is_not_believed(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    with directory.lock():
        directory.write_run_file(RUN)
        assert read_run_file(tmp_path) == RUN
    with DataDirectory(tmp_path).lock():
        assert not (tmp_path / RUN_FILE).exists()
