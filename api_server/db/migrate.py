"""Brings the schema of a database to a revision.

One process at a time: the others wait for a lock of the database itself. On SQLite and PostgreSQL all steps are one
transaction. MariaDB commits each statement by itself; there each step can be run again where it was cut.
"""

from __future__ import annotations

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text

from api_server.db.database import Database
from api_server.db.engine import IMMEDIATE, Kind
from api_server.db.errors import DatabaseSchemaError, DatabaseUnavailableError
from api_server.db.revisions import configuration, known, revision_of

__all__ = ["current", "downgrade", "upgrade"]

_LOCK = 0x686F6D65706F7274
""""homeport", as PostgreSQL's number of an advisory lock."""

_LOCK_WAIT = 60
"""Seconds to wait for another process that migrates."""


async def current(database: Database) -> str | None:
    """The revision of the schema; None when the database is empty.

    Raises:
        DatabaseUnavailableError: it cannot be reached.
    """
    return await database.read(revision_of)


async def upgrade(database: Database, to: str = "head") -> tuple[str | None, str | None]:
    """Bring the schema up to a revision.

    Returns:
        The revisions before and after.

    Raises:
        DatabaseUnavailableError: the database cannot be reached.
        DatabaseSchemaError: there is no such revision, or the schema is one of a newer version.
    """
    return await _migrate(database, lambda config: command.upgrade(config, to), to)


async def downgrade(database: Database, to: str) -> tuple[str | None, str | None]:
    """Bring the schema down to a revision, or to nothing by `base`. What the older schema has no place for is lost.

    Returns:
        The revisions before and after.

    Raises:
        DatabaseUnavailableError: the database cannot be reached.
        DatabaseSchemaError: there is no such revision, or the schema is one of a newer version.
    """
    return await _migrate(database, lambda config: command.downgrade(config, to), to)


async def _migrate(database: Database, step: Callable[[Config], None], to: str) -> tuple[str | None, str | None]:
    if to not in ("head", "base", *known()):
        raise DatabaseSchemaError(f"there is no schema {to}; there are {', '.join(known())}")
    async with database.administer() as connection:
        before = await revision_of(connection)
        await connection.rollback()
        if before is not None and before not in known():
            raise DatabaseSchemaError(
                f"the database has schema {before}, made by a newer version of Homeport; run that instead"
            )
        await connection.run_sync(_run, database.kind, step)
        after = await revision_of(connection)
        await connection.rollback()
        return before, after


def _run(connection: Connection, kind: Kind, step: Callable[[Config], None]) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    try:
        _WAYS[kind](connection, config, step)
    except CommandError as exc:
        raise DatabaseSchemaError(str(exc)) from exc


def _on_sqlite(connection: Connection, config: Config, step: Callable[[Config], None]) -> None:
    # Where a table is made anew to change it, the rows that refer to it would go. All references are checked at the
    # end instead. Past SQLAlchemy, because within a transaction it has no effect.
    _foreign_keys(connection, "OFF")
    try:
        connection = connection.execution_options(**{IMMEDIATE: True})
        with connection.begin():
            step(config)
            if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise DatabaseSchemaError(f"the migration would leave a row of {broken[0]} that refers to nothing")
    finally:
        _foreign_keys(connection, "ON")


def _foreign_keys(connection: Connection, switch: str) -> None:
    cursor = connection.connection.cursor()
    cursor.execute(f"PRAGMA foreign_keys = {switch}")
    cursor.close()


def _on_postgresql(connection: Connection, config: Config, step: Callable[[Config], None]) -> None:
    with connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        step(config)


def _on_mariadb(connection: Connection, config: Config, step: Callable[[Config], None]) -> None:
    name = {"name": "homeport-migration", "wait": _LOCK_WAIT}
    if connection.execute(text("SELECT GET_LOCK(:name, :wait)"), name).scalar_one() != 1:
        raise DatabaseUnavailableError(f"another process has been migrating the database for {_LOCK_WAIT} s")
    connection.commit()
    try:
        step(config)
        connection.commit()
    finally:
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), name)
        connection.commit()


_WAYS: dict[Kind, Callable[[Connection, Config, Callable[[Config], None]], None]] = {
    Kind.SQLITE: _on_sqlite,
    Kind.POSTGRESQL: _on_postgresql,
    Kind.MARIADB: _on_mariadb,
}
