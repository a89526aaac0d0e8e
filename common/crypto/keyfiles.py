"""Secrets and public keys on disk.

A secret file is written at mode 0600, whole or not at all, and is not read when its group or others may read or write
it: a key that leaked through a wrong mode should stop a start, not be found a year later. A public key file may be
read by everyone and written by its owner only: who can write it can let devices in.

Symbolic links are followed, because that is how orchestrators mount secrets; the mode that counts is the target's.
Called at start and at reload, never on the way of a request: the calls block on the disk.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from common.crypto.errors import KeyFileError
from common.secret import Secret

__all__ = [
    "check_private",
    "ensure_secret",
    "new_internal_key",
    "read_public",
    "read_secret",
    "write_public",
    "write_secret",
]

_MAX_SIZE = 64 * 1024
"""Bytes; no key of ours comes near, and a path that points at a device or a log ends here."""

_MAX_SETTINGS_SIZE = 1024 * 1024
"""Bytes of a settings file."""

_MIN_SECRET_LENGTH = 16
"""Characters; shorter than this is a truncated file or a placeholder."""


def new_internal_key() -> Secret:
    """A fresh key that relay and API server share: 256 random bits, base64url."""
    return Secret(secrets.token_urlsafe(32))


def write_secret(path: Path, text: str) -> None:
    """Write `text` to `path` at mode 0600, replacing what was there in one step.

    Raises:
        KeyFileError: the folder is missing or the disk refuses.
    """
    _write(path, text, 0o600, replace=True)


def write_public(path: Path, text: str) -> None:
    """Write `text` to `path` at mode 0644, replacing what was there in one step.

    Raises:
        KeyFileError: the folder is missing or the disk refuses.
    """
    _write(path, text, 0o644, replace=True)


def ensure_secret(path: Path, make: Callable[[], Secret] = new_internal_key) -> Secret:
    """The secret in `path`; when there is none yet, what `make` gives is written there first.

    Two processes that do this at once get the same secret: the first to write wins.

    Raises:
        KeyFileError: the file cannot be made, or not be trusted.
    """
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            _write(path, make().reveal() + "\n", 0o600, replace=False)
    return read_secret(path)


def read_secret(path: Path) -> Secret:
    """The content of a secret file, without white space around it.

    Raises:
        KeyFileError: it is missing, not a regular file, open to group or others, owned by someone else, not text, too
            large or too short.
    """
    text = _read(path, forbidden=0o077, advice=f"run: chmod 600 {path}")
    if len(text) < _MIN_SECRET_LENGTH:
        raise KeyFileError(f"{path} holds fewer than {_MIN_SECRET_LENGTH} characters, which is no key")
    return Secret(text)


def check_private(path: Path) -> None:
    """Check a file that holds a secret among other things, such as a settings file.

    Raises:
        KeyFileError: as `read_secret`, except for what the content is.
    """
    _read(path, forbidden=0o077, advice=f"run: chmod 600 {path}", limit=_MAX_SETTINGS_SIZE)


def read_public(path: Path) -> str:
    """The content of a public key file, without white space around it.

    Raises:
        KeyFileError: it is missing, not a regular file, writable by group or others, owned by someone else, not text
            or too large.
    """
    return _read(path, forbidden=0o022, advice=f"run: chmod 644 {path}")


def _read(path: Path, *, forbidden: int, advice: str, limit: int = _MAX_SIZE) -> str:
    try:
        # O_NONBLOCK: opening a named pipe must not hang the start. It means nothing for a regular file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            # Of the open file, not of the path: what is checked is what is read.
            status = os.fstat(descriptor)
            _check(path, status, forbidden, advice)
            content = file.read(limit + 1)
    except OSError as exc:
        raise KeyFileError(f"{path} cannot be read: {exc.strerror}") from exc
    if len(content) > limit:
        raise KeyFileError(f"{path} is larger than {limit} bytes")
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is not UTF-8 text") from None  # the cause would quote the bytes


def _check(path: Path, status: os.stat_result, forbidden: int, advice: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path} is not a regular file")
    if status.st_mode & forbidden:
        mode = stat.S_IMODE(status.st_mode)
        raise KeyFileError(f"{path} has mode {mode:04o}, which opens it to other users; {advice}")
    if status.st_uid not in (0, os.geteuid()):
        raise KeyFileError(f"{path} belongs to user {status.st_uid}, neither to root nor to the user of this process")


def _write(path: Path, text: str, mode: int, *, replace: bool) -> None:
    """Write beside `path`, then put it in place: a reader sees the old file, or the new one, never half.

    Raises:
        FileExistsError: `path` exists, and `replace` is false.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, mode)  # whatever the umask made of it
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            if replace:
                os.replace(beside, path)
            else:
                os.link(beside, path)  # unlike a rename, it fails when there is one already
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as exc:
        raise KeyFileError(f"{path} cannot be written: {exc.strerror}") from exc


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
