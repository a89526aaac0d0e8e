"""Which revocations are in force, kept in a file, because the relay keeps them in memory only.

The file is the truth and is written before the relay is told. API servers that share the ports share the file: each
reads it anew under a lock before it adds to it. Revocations that have expired are dropped on the way, so the file is no
longer than what was revoked within the life of one session token.

The calls block on the disk; `RevocationService` makes them in a thread.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from api_server.devices.interfaces import Revocation
from common.crypto.errors import KeyFileError
from common.crypto.keyfiles import write_secret

__all__ = ["RevocationLedger"]


class _File(msgspec.Struct, frozen=True):
    revocations: list[Revocation]


class RevocationLedger:
    """The revocations in force.

    Args:
        path: of the file; None keeps them in memory, and forgets them when the process ends.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._in_memory: list[Revocation] = []

    def add(self, revocation: Revocation, now: float) -> None:
        """Keep a revocation.

        Args:
            revocation: said twice, the later expiry holds.
            now: seconds since the Unix epoch; what has expired by then is dropped.

        Raises:
            KeyFileError: the file cannot be read or written.
        """
        with self._locked():
            kept = {(each.kind, each.team, each.id): each for each in self.in_force(now)}
            key = (revocation.kind, revocation.team, revocation.id)
            if key not in kept or kept[key].expires_at < revocation.expires_at:
                kept[key] = revocation
            self._write(list(kept.values()))

    def in_force(self, now: float) -> list[Revocation]:
        """The revocations that have not expired at `now` (seconds since the Unix epoch).

        Raises:
            KeyFileError: the file cannot be read.
        """
        return [each for each in self._read() if each.expires_at > now]

    def _read(self) -> list[Revocation]:
        if self._path is None:
            return self._in_memory
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_File).revocations
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as exc:
            # To go on without them would let in whoever was locked out.
            raise KeyFileError(f"{self._path} cannot be read as a list of revocations: {exc}") from exc

    def _write(self, revocations: list[Revocation]) -> None:
        if self._path is None:
            self._in_memory = revocations
        else:
            write_secret(self._path, msgspec.json.encode(_File(revocations)).decode() + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold off other processes. The lock is on a file beside, because the file itself is replaced."""
        if self._path is None:
            yield
            return
        try:
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise KeyFileError(f"{self._path}.lock cannot be opened: {exc.strerror}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
