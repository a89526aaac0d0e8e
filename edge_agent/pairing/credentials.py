"""The agent's folder, and what a paired device keeps in it.

    device-key       the private key, made before anything is asked for        0600
    device.json      which device this is, and where its API and relay are     0600
    session-token    what it dials in with                                     0600

The key comes first and stays: whatever happens after the API has answered (power, a full disk), the same key asks
again and is given the same device. `prepare` finds out before the API is asked whether there will be room.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from common.crypto.device_keys import DeviceKey
from common.crypto.errors import KeyFileError
from common.crypto.keyfiles import ensure_secret, read_secret, write_secret
from edge_agent.pairing.errors import FolderError, NotPairedError

__all__ = ["Credential", "CredentialStore"]

_ROOM = 64 * 1024
"""Bytes; ten times what the files need."""


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """Which device this is."""

    device: str
    """Its id."""
    name: str
    team: str
    api: str
    """Base URL of the API that it was paired with, and renews with."""
    tunnel_url: str
    """Of the relay."""
    expires_at: float
    """Of the session token, seconds since the Unix epoch by the API's clock."""
    issued_at: float
    """When it was received, by the same clock."""


class CredentialStore:
    """The files of one folder.

    Args:
        folder: of the agent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token_file = folder / "session-token"
        self._key_file = folder / "device-key"
        self._device_file = folder / "device.json"

    def prepare(self) -> DeviceKey:
        """Make the folder and the key, unless they are there, and see that there is room for the rest.

        Raises:
            FolderError: one of that fails.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = DeviceKey(ensure_secret(self._key_file, lambda: DeviceKey.generate().private))
            self._check_room()
        except OSError as exc:
            raise FolderError(f"{self.folder} cannot be used: {exc.strerror}; nothing was asked for") from exc
        except (KeyFileError, ValueError) as exc:
            raise FolderError(f"the device's key cannot be used: {exc}; nothing was asked for") from exc
        return key

    def _check_room(self) -> None:
        trial = self.folder / ".room"
        descriptor = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _ROOM)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                trial.unlink()

    def save(self, credential: Credential, session_token: str) -> None:
        """Keep a credential. The session token comes first: a reader that sees the new device has its token.

        Raises:
            FolderError: the disk refuses; what was there before still is.
        """
        try:
            write_secret(self.token_file, session_token + "\n")
            write_secret(self._device_file, msgspec.json.encode(credential).decode() + "\n")
        except KeyFileError as exc:
            raise FolderError(
                f"the credential cannot be kept: {exc.detail}; make room and repeat the same command: "
                "the device keeps its key and gets the same credential again"
            ) from exc

    def read(self) -> tuple[Credential, DeviceKey]:
        """What is kept.

        Raises:
            FolderError: it cannot be read.
            NotPairedError: there is nothing.
        """
        if not self._device_file.exists():
            raise NotPairedError(f"{self.folder} holds no credential; pair the device first: homeport agent pair")
        try:
            credential = msgspec.json.decode(read_secret(self._device_file).reveal(), type=Credential)
            return credential, DeviceKey(read_secret(self._key_file))
        except (KeyFileError, ValueError) as exc:  # msgspec's errors are ValueErrors
            raise FolderError(f"the credential in {self.folder} cannot be used: {exc}") from exc
