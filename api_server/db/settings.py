"""Where the database is: what the API server and the commands that work on its database are told alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from common.secret import Secret
from common.settings import Settings

__all__ = ["DatabaseSettings"]

_FILE = "homeport.db"


class DatabaseSettings(Settings, frozen=True, kw_only=True):
    """Where the database is."""

    section: ClassVar[str] = "api"

    data_dir: Annotated[
        Path | None,
        Meta(description="Folder of the database and the keys of the audit log, where they are not named themselves."),
    ] = None
    database_url: Annotated[
        Secret | None,
        Meta(
            description="URL of the database: sqlite:////path/to/file, postgresql+psycopg://user:password@host/name or "
            "mysql+asyncmy://user:password@host/name (MariaDB); by default the SQLite file homeport.db in data_dir."
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
