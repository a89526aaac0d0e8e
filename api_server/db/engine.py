"""How each kind of database is spoken to.

    sqlite       a file of ours alone: WAL, so that readers do not wait; foreign keys are checked; writers take the lock
                 when they begin, not in the middle, where it could only fail
    postgresql   psycopg 3, READ COMMITTED
    mysql        asyncmy, MariaDB only, READ COMMITTED as PostgreSQL has it, strict about what does not fit

Errors that a database reports are told apart here, and nowhere else.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from enum import Enum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from api_server.db.errors import DatabaseUnavailableError, DatabaseUrlError
from common.secret import Secret

__all__ = ["IMMEDIATE", "Failure", "Kind", "failure_of", "kind_of", "new_engine", "parse_url", "shown"]

IMMEDIATE: Final = "homeport_immediate"
"""Execution option of a connection: on SQLite, its transaction takes the write lock when it begins."""

_CONNECT_TIMEOUT = 5
"""Seconds to reach a server."""

_BUSY_TIMEOUT = 5.0
"""Seconds that SQLite waits for another process to end its write."""

_RECYCLE = 1800
"""Seconds after which an idle connection is replaced: servers and firewalls drop them unseen."""


class Kind(Enum):
    """What a database is; the value is SQLAlchemy's name of its dialect."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    MARIADB = "mysql"


_DRIVERS = {Kind.SQLITE: "aiosqlite", Kind.POSTGRESQL: "psycopg", Kind.MARIADB: "asyncmy"}


class Failure(Enum):
    """What an error of a database means for who asked."""

    AGAIN = "again"
    """Nothing was done, because of other transactions: the same again may succeed."""
    UNAVAILABLE = "unavailable"
    """It cannot be reached, or cannot write."""
    CONFLICT = "conflict"
    """A constraint does not hold."""
    FAULT = "fault"
    """Ours: wrong SQL, a value that does not fit."""


def parse_url(text: Secret | str) -> URL:
    """The URL with the driver that is used here: `sqlite:///file`, `postgresql://...`, `mysql://...`, each also with
    `+aiosqlite`, `+psycopg`, `+asyncmy`.

    Raises:
        DatabaseUrlError: it names no database that can be used.
    """
    try:
        url = make_url(text.reveal() if isinstance(text, Secret) else text)
    except ArgumentError:
        # Without the cause, which quotes the URL and its password.
        raise DatabaseUrlError(
            "database_url is no URL; write sqlite:///, postgresql+psycopg:// or mysql+asyncmy://"
        ) from (None)
    name, _, driver = url.drivername.partition("+")
    try:
        kind = Kind("mysql" if name == "mariadb" else name)
    except ValueError:
        raise DatabaseUrlError(
            f"database_url begins with {url.drivername}, which is no database for Homeport"
        ) from None
    if driver not in ("", _DRIVERS[kind]):
        raise DatabaseUrlError(f"database_url names the driver {driver}; {kind.value}+{_DRIVERS[kind]} is what is used")
    if kind is Kind.SQLITE and (url.database in (None, "", ":memory:") or url.query):
        raise DatabaseUrlError("database_url must name a file of SQLite: sqlite:////var/lib/homeport/homeport.db")
    if kind is not Kind.SQLITE and not url.database:
        raise DatabaseUrlError("database_url must name the database: .../homeport")
    return url.set(drivername=f"{kind.value}+{_DRIVERS[kind]}")


def kind_of(url: URL) -> Kind:
    """Which kind of database a parsed URL names."""
    return Kind(url.get_backend_name())


def shown(url: URL) -> str:
    """The URL for logs and messages: without password, and without the query, which can hold one, too."""
    return url.set(query={}).render_as_string(hide_password=True)


def new_engine(url: URL, *, pool_size: int, deadline: float, must_exist: bool) -> AsyncEngine:
    """An engine; it connects when it is first used.

    Args:
        url: as `parse_url` gave it.
        pool_size: most connections at a time.
        deadline: seconds in which a transaction must be over.
        must_exist: do not make a file of SQLite.

    Raises:
        DatabaseUnavailableError: the file of SQLite is not there, or cannot be made.
    """
    options: dict[str, Any] = {
        "pool_size": pool_size,
        "max_overflow": 0,
        "hide_parameters": True,  # errors are logged; hashes of tokens and addresses of people need not be
    }
    match kind_of(url):
        case Kind.SQLITE:
            assert url.database is not None
            _open_private(Path(url.database), 0 if must_exist else os.O_CREAT)
            engine = create_async_engine(url, connect_args={"timeout": min(_BUSY_TIMEOUT, deadline)}, **options)
            event.listen(engine.sync_engine, "connect", _on_sqlite_connect)
            event.listen(engine.sync_engine, "begin", _on_sqlite_begin)
            return engine
        case Kind.POSTGRESQL:
            arguments: dict[str, Any] = {"connect_timeout": _CONNECT_TIMEOUT, "application_name": "homeport"}
        case Kind.MARIADB:
            # What it warns of beside errors is about statements of migrations, such as a name that it does not keep.
            logging.getLogger("asyncmy").setLevel(logging.ERROR)
            # FOUND_ROWS is asked for by the dialect: an UPDATE counts the rows that it matched, as elsewhere.
            arguments = {"connect_timeout": _CONNECT_TIMEOUT, "charset": "utf8mb4", "sql_mode": "TRADITIONAL"}
    return create_async_engine(
        url,
        connect_args=arguments,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_recycle=_RECYCLE,
        **options,
    )


def _open_private(path: Path, create: int) -> None:
    """A file that only we can read, before SQLite makes one that others can. Its -wal and -shm get the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | create | os.O_CLOEXEC, 0o600))
    except OSError as exc:
        raise DatabaseUnavailableError(f"the database {path} cannot be opened: {exc.strerror}") from exc


def _on_sqlite_connect(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, late and never immediately.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


_SQLITE_AGAIN = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SQLITE_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)

_POSTGRESQL_AGAIN = frozenset({"40001", "40P01", "55P03"})
"""serialization_failure, deadlock_detected, lock_not_available."""
_POSTGRESQL_UNAVAILABLE = ("08", "53", "57P", "58", "25006", "28", "3D000")
"""By prefix: connection exception, insufficient resources, operator intervention (shutdown), system error, read-only
transaction (a standby), refused authorisation, no such database."""

_MARIADB_AGAIN = frozenset({1020, 1205, 1213})
"""Record has changed, lock wait timeout, deadlock."""
_MARIADB_UNAVAILABLE = frozenset(
    {
        1021,
        1040,
        1041,
        1044,
        1045,
        1049,
        1053,
        1114,
        1129,
        1130,
        1203,
        1290,
        1317,
        1836,
        1927,
        2002,
        2003,
        2006,
        2013,
        2014,
    }
)
"""Disk full, too many connections, out of memory, access denied (twice), no such database, shutdown, table full, host
blocked, host not allowed, too many connections of the user, read-only (twice), interrupted, killed, and the client's
own: cannot connect (twice), gone away, lost, out of sync."""


def failure_of(exc: BaseException) -> Failure:
    """What an exception means that came out of SQLAlchemy or a driver."""
    if isinstance(exc, PoolTimeoutError | TimeoutError | ConnectionError | OSError):
        return Failure.UNAVAILABLE
    if isinstance(exc, IntegrityError):
        return Failure.CONFLICT
    if not isinstance(exc, DBAPIError):
        return Failure.FAULT
    if exc.connection_invalidated:
        return Failure.UNAVAILABLE
    original: Any = exc.orig
    if (code := getattr(original, "sqlite_errorcode", None)) is not None:
        primary = code & 0xFF  # the rest says more of the same
        return _one_of(primary in _SQLITE_AGAIN, primary in _SQLITE_UNAVAILABLE)
    if hasattr(original, "sqlstate"):
        state = original.sqlstate
        if state is None:  # psycopg's own: no server has answered
            return _one_of(again=False, unavailable=_is_operational(exc))
        return _one_of(state in _POSTGRESQL_AGAIN, state.startswith(_POSTGRESQL_UNAVAILABLE))
    number = original.args[0] if getattr(original, "args", ()) else None
    return _one_of(number in _MARIADB_AGAIN, number in _MARIADB_UNAVAILABLE)


def _is_operational(exc: DBAPIError) -> bool:
    return type(exc.orig).__name__ in ("OperationalError", "ConnectionTimeout", "InterfaceError")


def _one_of(again: bool, unavailable: bool) -> Failure:
    if again:
        return Failure.AGAIN
    return Failure.UNAVAILABLE if unavailable else Failure.FAULT
