"""The folder that outlives `homeport up`: with it come the same tokens, keys and device again.

lock                        held while a supervisor runs; its pid is in it
internal-key                shared by relay and API server                      0600
session-signing-keys.json   private keys of session tokens                      0600
session-keys.json           their public halves, for the relay                  0644
admin-token                 the API token of the first person                   0600
audit-signing-keys.json     private keys of the audit log's checkpoints          0600
audit-keys.json             their public halves, for whoever verifies the log   0644
homeport.db                 the database, and -wal and -shm beside it           0600
cookie-keys                 of the cookies of people                            0600
api-token-keys              that API tokens are hashed with                    0600
keyring.json                of everything that is stored sealed                 0600
dev-idp/                    key and people of the provider for development      0700
demo/session-token          of the demo device, renewed                         0600
run.json                    where everything is, while it runs                  0644
*-ready.json                what each process told when it was listening
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from api_server.auth.signin.cookie_keys import ensure_cookie_keys
from api_server.db.settings import AUDIT_KEYS, AUDIT_PUBLIC_KEYS, KEYRING
from api_server.settings import API_TOKEN_KEYS
from api_server.tokens.keys import ensure_token_keys
from common.crypto.api_tokens import new_api_token
from common.crypto.key_sets import ensure_key_pair
from common.crypto.keyfiles import ensure_secret, write_public, write_secret
from common.crypto.keyring import ensure_keyring
from common.secret import Secret
from homeport.run_file import ADMIN_TOKEN, RUN_FILE, Run, write_run_file
from homeport.up.errors import DataDirectoryError, DataDirectoryInUseError

__all__ = ["DataDirectory"]


class DataDirectory:
    """The folder at `path`; made, with mode 0700, when it is not there.

    Raises:
        DataDirectoryError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.demo.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise DataDirectoryError(
                f"the data directory {self.path} cannot be made: {exc.strerror}; name another by --data-dir"
            ) from exc

    @property
    def internal_key(self) -> Path:
        return self.path / "internal-key"

    @property
    def signing_keys(self) -> Path:
        return self.path / "session-signing-keys.json"

    @property
    def public_keys(self) -> Path:
        return self.path / "session-keys.json"

    @property
    def admin_token(self) -> Path:
        return self.path / ADMIN_TOKEN

    @property
    def cookie_keys(self) -> Path:
        return self.path / "cookie-keys"

    @property
    def api_token_keys(self) -> Path:
        return self.path / API_TOKEN_KEYS

    @property
    def keyring(self) -> Path:
        return self.path / KEYRING

    @property
    def dev_idp(self) -> Path:
        return self.path / "dev-idp"

    @property
    def audit_signing_keys(self) -> Path:
        return self.path / AUDIT_KEYS

    @property
    def audit_public_keys(self) -> Path:
        return self.path / AUDIT_PUBLIC_KEYS

    @property
    def demo(self) -> Path:
        return self.path / "demo"

    @property
    def demo_token(self) -> Path:
        return self.demo / "session-token"

    def ready_file(self, process: str) -> Path:
        """Where a process tells that it is listening."""
        return self.path / f"{process}-ready.json"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other supervisors out. The system drops the lock when this process ends, however it does.

        Raises:
            DataDirectoryInUseError: there is another one.
            DataDirectoryError: the folder cannot be written.
        """
        path = self.path / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise DataDirectoryError(f"the data directory {self.path} cannot be written: {exc.strerror}") from exc
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
                raise DataDirectoryInUseError(
                    f"another `homeport up` (process {owner}) uses {self.path}; stop it, or name another folder by "
                    "--data-dir"
                ) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            # A run.json that a killed supervisor left must not be believed while this one starts.
            self.remove_run_file()
            yield
        finally:
            os.close(descriptor)

    def make_keys(self) -> Secret:
        """Make what is missing of keys and tokens; gives the administration token.

        Raises:
            KeyFileError: a file cannot be made, or not be trusted.
        """
        ensure_secret(self.internal_key)
        ensure_key_pair(self.signing_keys, self.public_keys)
        ensure_key_pair(self.audit_signing_keys, self.audit_public_keys)
        ensure_cookie_keys(self.cookie_keys)
        ensure_token_keys(self.api_token_keys)
        ensure_keyring(self.keyring)
        return ensure_secret(self.admin_token, new_api_token)

    def read_dev_idp_port(self) -> int | None:
        """The port that the provider for development had the last time; None before the first."""
        try:
            return int((self.dev_idp / "port").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def write_dev_idp_port(self, port: int) -> None:
        """Keep it for the next time."""
        write_public(self.dev_idp / "port", f"{port}\n")

    def write_demo_token(self, token: str) -> None:
        """Replace the session token of the demo device."""
        write_secret(self.demo_token, token + "\n")

    def write_run_file(self, run: Run) -> None:
        """Tell the world that everything is ready."""
        write_run_file(self.path, run)

    def remove_run_file(self) -> None:
        """Tell it no more."""
        (self.path / RUN_FILE).unlink(missing_ok=True)
