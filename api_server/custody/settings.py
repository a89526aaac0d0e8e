"""Where records are kept beside the database, if anywhere: off until a destination is named.

The names of these settings come from a system that Homeport takes the place of: their variables have no `HOMEPORT_`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from api_server.db.settings import DatabaseSettings
from common.secret import Secret
from common.settings import Seconds

__all__ = ["CustodySettings"]

_CLONE = "custody-git"
"""In the data directory."""


_NAMED_BY = {"git": "gitstore_git_url", "s3": "objectstore_endpoint", "postgresql": "pgstore_dsn"}
"""What names each destination."""


class CustodySettings(DatabaseSettings, frozen=True, kw_only=True):
    """The database, and the mirrors of the records in it."""

    families: ClassVar[tuple[str, ...]] = ("gitstore_", "objectstore_", "pgstore_")

    custody_primary: Annotated[
        Literal["database", "git", "s3", "postgresql"],
        Meta(
            description="Where a record has to be before a change of it is answered: in the database, or at one of the "
            "destinations below, of which the database is then the working copy."
        ),
    ] = "database"
    custody_primary_timeout: Annotated[
        Seconds,
        Meta(description="Time that a change waits for the primary; it is kept then, and answered with an error."),
    ] = 20.0
    custody_interval: Annotated[
        Seconds, Meta(description="Time after which mirrors look for what they lack, when no change has told them.")
    ] = 30.0
    custody_timeout: Annotated[
        Seconds, Meta(description="Time for one exchange with the destination of a mirror, such as a push.")
    ] = 60.0

    gitstore_git_url: Annotated[
        str | None,
        Meta(description="URL of a Git repository that mirrors records, https://host/path; empty for none."),
    ] = None
    gitstore_git_username: Annotated[str, Meta(min_length=1, description="Name that goes with the Git token.")] = "git"
    gitstore_git_token: Annotated[
        Secret | None, Meta(description="Token for that repository; shown to its host alone.")
    ] = None
    gitstore_git_branch: Annotated[
        str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z", description="Branch of that repository.")
    ] = "main"
    gitstore_local_path: Annotated[
        Path | None,
        Meta(description="Folder of the local clone; it may be deleted. By default custody-git in data_dir."),
    ] = None
    gitstore_ca_file: Annotated[
        Path | None, Meta(description="Certificates to check the Git server's against; empty for the system's.")
    ] = None

    objectstore_endpoint: Annotated[
        str | None,
        Meta(description="URL of an S3-compatible server that mirrors records, https://host; empty for none."),
    ] = None
    objectstore_bucket: Annotated[str | None, Meta(description="Bucket there.")] = None
    objectstore_access_key: Annotated[str | None, Meta(description="Id of the access key for it.")] = None
    objectstore_secret_key: Annotated[Secret | None, Meta(description="The access key itself.")] = None
    objectstore_region: Annotated[str, Meta(min_length=1, description="Region that requests are signed for.")] = (
        "us-east-1"
    )
    objectstore_prefix: Annotated[
        str,
        Meta(
            pattern=r"\A(?:[A-Za-z0-9][A-Za-z0-9_-]{0,99}(?:/[A-Za-z0-9][A-Za-z0-9_-]{0,99}){0,7})?\Z",
            description="What the names of the objects begin with: {prefix}/auths/{id}.json; empty for nothing.",
        ),
    ] = "homeport"
    objectstore_path_style: Annotated[
        bool, Meta(description="Name the bucket in the path of a request, and not in the host.")
    ] = True
    objectstore_local_mirror: Annotated[
        Path | None,
        Meta(
            description="Folder that is kept with the same documents as the bucket, for people to look at; Homeport "
            "does not read records from it. Empty for none."
        ),
    ] = None

    pgstore_dsn: Annotated[
        Secret | None,
        Meta(
            description="Connection string of a PostgreSQL of its own that mirrors records: "
            "postgresql://user:password@host/name?sslmode=verify-full; empty for none."
        ),
    ] = None
    pgstore_schema: Annotated[
        str, Meta(pattern=r"\A[a-z][a-z0-9_]{0,62}\Z", description="Schema there; made when it is not there.")
    ] = "homeport_custody"

    def git_clone(self) -> Path:
        """The folder of the local clone.

        Raises:
            ValueError: neither it nor the data directory is given.
        """
        if self.gitstore_local_path is not None:
            return self.gitstore_local_path
        if self.data_dir is None:
            raise ValueError("gitstore_local_path is needed for gitstore_git_url, or data_dir")
        return self.data_dir / _CLONE

    def check_mirrors(self) -> None:
        """Find out whether what belongs together is there.

        Raises:
            ValueError: something is missing.
        """
        if self.gitstore_git_url is not None:
            self.git_clone()
        needed = (self.objectstore_bucket, self.objectstore_access_key, self.objectstore_secret_key)
        if self.objectstore_endpoint is not None and None in needed:
            raise ValueError(
                "objectstore_bucket, objectstore_access_key and objectstore_secret_key are needed for "
                "objectstore_endpoint"
            )
        if self.custody_primary_timeout < 1:
            raise ValueError("custody_primary_timeout must be a second at least")
        if self.custody_primary in _NAMED_BY and getattr(self, _NAMED_BY[self.custody_primary]) is None:
            raise ValueError(f"{_NAMED_BY[self.custody_primary]} is needed for custody_primary {self.custody_primary}")
