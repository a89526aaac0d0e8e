"""Where the database is, the keys of its audit log, and those of what is sealed in it; the API server and the commands
for it are told alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from common.secret import Secret
from common.settings import Settings

__all__ = ["AUDIT_KEYS", "AUDIT_PUBLIC_KEYS", "KEYRING", "DatabaseSettings"]

AUDIT_KEYS = "audit-signing-keys.json"
AUDIT_PUBLIC_KEYS = "audit-keys.json"
"""In the data directory; the public keys are for whoever verifies the log."""

KEYRING = "keyring.json"
"""In the data directory."""

_FILE = "homeport.db"


class DatabaseSettings(Settings, frozen=True, kw_only=True):
    """Where the database is."""

    section: ClassVar[str] = "api"

    data_dir: Annotated[
        Path | None,
        Meta(
            description="Folder of the database, the keys of the audit log and the keyring, where they are not "
            "named themselves."
        ),
    ] = None
    database_url: Annotated[
        Secret | None,
        Meta(
            description="URL of the database: sqlite:////path/to/file, postgresql+psycopg://user:password@host/name or "
            "mysql+asyncmy://user:password@host/name (MariaDB); by default the SQLite file homeport.db in data_dir."
        ),
    ] = None

    audit_key_file: Annotated[
        Path | None,
        Meta(
            description="File (mode 0600) with the private keys that sign checkpoints of the audit log; the first one "
            "signs. By default audit-signing-keys.json in data_dir."
        ),
    ] = None

    keyring_file: Annotated[
        Path | None,
        Meta(
            description="File (mode 0600) with the keys of everything that is stored sealed; the first one seals. "
            "Processes of one installation share it. By default keyring.json in data_dir."
        ),
    ] = None

    def database(self) -> Secret:
        """The URL in effect.

        Raises:
            ValueError: neither is given.
        """
        if self.database_url is not None:
            return self.database_url
        if self.data_dir is None:
            raise ValueError("database_url is needed, or data_dir")
        return Secret(f"sqlite:///{(self.data_dir / _FILE).absolute()}")

    def audit_key(self) -> Path:
        """The file of the keys that sign checkpoints.

        Raises:
            ValueError: neither it nor its folder is given.
        """
        if self.audit_key_file is not None:
            return self.audit_key_file
        if self.data_dir is None:
            raise ValueError("audit_key_file is needed, or data_dir")
        return self.data_dir / AUDIT_KEYS

    def keyring(self) -> Path:
        """The file of the keys of what is sealed.

        Raises:
            ValueError: neither it nor its folder is given.
        """
        if self.keyring_file is not None:
            return self.keyring_file
        if self.data_dir is None:
            raise ValueError("keyring_file is needed, or data_dir; `homeport keys init` makes one")
        return self.data_dir / KEYRING
