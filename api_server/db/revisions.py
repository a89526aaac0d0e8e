"""Which schema the code works with, and which one a database has."""

from __future__ import annotations

from functools import cache

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.db.errors import DatabaseSchemaError

__all__ = ["check_revision", "configuration", "head", "known", "revision_of"]


def configuration() -> Config:
    """Alembic's, without a file: the migrations are a package beside this module."""
    config = Config()
    config.set_main_option("script_location", "api_server.db:migrations")
    config.set_main_option("path_separator", "os")
    return config


@cache
def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(configuration())


def head() -> str:
    """The revision of this code."""
    revision = _script().get_current_head()
    assert revision is not None
    return revision


def known() -> list[str]:
    """The revisions that this code has migrations for, oldest first."""
    return [script.revision for script in reversed(list(_script().walk_revisions()))]


async def revision_of(connection: AsyncConnection) -> str | None:
    """The revision of a database; None when it is empty."""
    return await connection.run_sync(_revision)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def check_revision(connection: AsyncConnection) -> None:
    """Refuse a database that has another schema than this code.

    Raises:
        DatabaseSchemaError: what it has, and what to do.
    """
    found = await revision_of(connection)
    if found == head():
        return
    if found is None:
        raise DatabaseSchemaError("the database is empty; run `homeport db upgrade`")
    if found in known():
        raise DatabaseSchemaError(
            f"the database has schema {found}, this version of Homeport needs {head()}; run `homeport db upgrade`"
        )
    raise DatabaseSchemaError(
        f"the database has schema {found}, made by a newer version of Homeport; run that, or downgrade with it first"
    )
