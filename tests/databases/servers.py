"""Servers that start when they are first wanted, and databases in them that cost little.

SQLite        a copy of a migrated file
PostgreSQL    CREATE DATABASE ... TEMPLATE, of one that was migrated once
MariaDB       has no templates: databases are used again, each table refilled from one that was migrated once
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.db.migrate import upgrade
from api_server.db.schema import METADATA
from tests.stack.mariadb import MariaDB, mariadb
from tests.stack.postgres import Postgres, postgres
from tests.stack.tools import tool

__all__ = ["Databases", "make_database_file", "unreachable"]


class Databases:
    """Where databases for tests come from. Leave its block when all of them are done with.

    Args:
        folder: for the files of SQLite.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._exit = ExitStack()
        self._numbers = count(1)
        self._postgresql: _PostgreSQL | None = None
        self._mariadb: _MariaDB | None = None

    def __enter__(self) -> Databases:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def fresh(self, kind: Kind, *, migrated: bool = True) -> AbstractContextManager[str]:
        """A database that nobody has used, as its URL; it is gone when the block is left.

        Args:
            kind: of database.
            migrated: with the newest schema; otherwise without any, for tests that change the schema.
        """
        match kind:
            case Kind.SQLITE:
                return self._on_sqlite(migrated)
            case Kind.POSTGRESQL:
                if self._postgresql is None:
                    self._postgresql = _PostgreSQL(self._exit.enter_context(postgres()))
                return self._on_server(self._postgresql, migrated)
            case Kind.MARIADB:
                if self._mariadb is None:
                    self._mariadb = _MariaDB(self._exit.enter_context(mariadb()))
                return self._on_server(self._mariadb, migrated)

    @contextmanager
    def _on_sqlite(self, migrated: bool) -> Iterator[str]:
        home = self._folder / f"sqlite-{next(self._numbers)}"
        home.mkdir()
        path = home / "homeport.db"
        if migrated:
            make_database_file(path)
        yield f"sqlite:///{path}"
        shutil.rmtree(home)

    @contextmanager
    def _on_server(self, server: _Server, migrated: bool) -> Iterator[str]:
        if not migrated:
            name = f"test_{next(self._numbers)}"
            server.create(name)
            yield server.url(name)
            server.drop(name)
            return
        if server.free:
            name = server.free.pop()
        else:
            name = f"test_{next(self._numbers)}"
            server.create(name)
            _migrate(server.url(name))
        yield server.url(name)
        server.clean(name)
        server.free.append(name)


class _PostgreSQL:
    """The PostgreSQL server, and its databases that are free."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self.free: list[str] = []

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._server.socket.parent}"

    def create(self, name: str) -> None:
        self._do("postgres", f"CREATE DATABASE {name} TEMPLATE template0")

    def drop(self, name: str) -> None:
        self._do("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    def clean(self, name: str) -> None:
        # As a replica it checks no references, so that the order does not matter.
        self._do(name, "SET session_replication_role = replica", *_CLEAN)

    def _do(self, name: str, *statements: str) -> None:
        where = f"host={self._server.socket.parent} user=postgres dbname={name}"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute("; ".join(statements).encode())


class _MariaDB:
    """The MariaDB server, and its databases that are free."""

    def __init__(self, server: MariaDB) -> None:
        self._server = server
        self.free: list[str] = []

    def url(self, name: str) -> str:
        return f"mysql+asyncmy://root@/{name}?unix_socket={self._server.socket}"

    def create(self, name: str) -> None:
        self._do(f"CREATE DATABASE {name}")

    def drop(self, name: str) -> None:
        self._do(f"DROP DATABASE {name}")

    def clean(self, name: str) -> None:
        self._do(f"USE {name}", "SET foreign_key_checks = 0", *_CLEAN)

    def _do(self, *statements: str) -> None:
        command = [tool("mariadb"), "--no-defaults", f"--socket={self._server.socket}", "--user=root"]
        subprocess.run(command, input="; ".join(statements), check=True, text=True)


_Server = _PostgreSQL | _MariaDB

_CLEAN = [*(f"DELETE FROM {name}" for name in METADATA.tables), f"INSERT INTO audit_head VALUES (1, 0, '{'0' * 64}')"]
"""What puts a database back to where the migrations had left it."""


@contextmanager
def unreachable(url: str) -> Iterator[None]:
    """Cut everybody off from a database of PostgreSQL until the block is left."""
    parsed = make_url(url)
    name = parsed.database
    where = f"host={parsed.query['host']} user=postgres dbname=postgres"
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    with psycopg.connect(where, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        connection.execute(cut, [name])
        yield
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


def make_database_file(path: Path) -> None:
    """A migrated database of SQLite."""
    path.touch(mode=0o600)
    path.write_bytes(_migrated_file())


@cache
def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "homeport.db"
        _migrate(f"sqlite:///{path}")
        return path.read_bytes()


def _migrate(url: str) -> None:
    async def work() -> None:
        async with Database.connect(url) as database:
            await upgrade(database)

    # In a thread: the fixture of a test that is async runs within its loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work()).result()
