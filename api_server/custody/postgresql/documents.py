"""Documents in a table of a PostgreSQL that is not Homeport's database.

    schema.version      which version the schema has; made and migrated at the start, under a lock
    schema.documents    name, content, tag
    schema.tags         where tags come from: none is given twice, so a document that was made anew has another

`apply` is one transaction; each statement has the expected tag in its WHERE.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Mapping, Sequence

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api_server.custody.documents.interfaces import MAX_DOCUMENT, Change, Document
from api_server.custody.errors import (
    DestinationAlteredError,
    DestinationSettingsError,
    DocumentConflictError,
    StoreRefusedError,
    StoreUnavailableError,
)
from common.secret import Secret

__all__ = ["PostgresDocuments"]

_CONNECT_TIMEOUT = 10
"""Seconds."""

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE SEQUENCE {schema}.tags AS bigint",
        """CREATE TABLE {schema}.documents (
            name text COLLATE "C" PRIMARY KEY, content bytea NOT NULL, tag bigint NOT NULL,
            changed_at timestamptz NOT NULL DEFAULT now()
        )""",
    ),
)
"""What brings the schema from each version to the next; version 0 has nothing."""

_READ_AT_ONCE = 500


class PostgresDocuments:
    """A `Documents`.

    Args:
        dsn: connection string, as libpq takes it.
        schema: of the tables; a plain name.
        timeout: seconds for each exchange.

    Raises:
        DestinationSettingsError: the connection string is none, or would send records over a network without TLS that
            proves the server.
    """

    name = "postgresql"
    is_atomic = True

    def __init__(self, dsn: Secret, schema: str, *, timeout: float = 60.0) -> None:
        given = _parsed(dsn)
        host, port, database = str(given["host"]), str(given.get("port") or 5432), str(given["dbname"])
        milliseconds = max(1, int(timeout * 1000))
        self._conninfo = make_conninfo(
            "",
            **given
            | {
                "connect_timeout": _CONNECT_TIMEOUT,
                "application_name": "homeport-custody",
                "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
            },
        )
        self._schema = schema
        self._timeout = timeout
        self._connection: AsyncConnection | None = None
        self._turn = asyncio.Lock()
        self.destination = f"postgresql {host}:{port}/{database} {schema}"
        """Which schema of which database it is."""

    async def open(self) -> None:
        """Connect, and make or migrate the schema, as `Documents` says."""
        async with self._transaction() as connection:
            lock = sql.SQL("SELECT pg_advisory_xact_lock(hashtext({}))").format(sql.Literal(f"homeport {self._schema}"))
            await connection.execute(lock)
            await connection.execute(self._sql("CREATE SCHEMA IF NOT EXISTS {schema}"))
            await connection.execute(
                self._sql("CREATE TABLE IF NOT EXISTS {schema}.version (version integer NOT NULL)")
            )
            row = await (await connection.execute(self._sql("SELECT version FROM {schema}.version"))).fetchone()
            version = 0 if row is None else int(row[0])
            if version > len(_MIGRATIONS):
                raise DestinationSettingsError(
                    f"{self.destination} has version {version}, made by a newer version of Homeport"
                )
            for statements in _MIGRATIONS[version:]:
                for statement in statements:
                    await connection.execute(self._sql(statement))
            await connection.execute(self._sql("DELETE FROM {schema}.version"))
            await connection.execute(self._sql("INSERT INTO {schema}.version VALUES (%s)"), [len(_MIGRATIONS)])

    async def close(self) -> None:
        """Close the connection. Twice is no error."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def forget(self) -> None:
        """Nothing is remembered."""

    async def refresh(self) -> None:
        """Find out whether the server answers; every call sees what is there then."""
        async with self._transaction() as connection:
            await connection.execute("SELECT 1")

    async def read(self, name: str) -> Document | None:
        """A document, as `Documents` says."""
        return (await self.read_many([name])).get(name)

    async def names(self, prefix: str) -> Sequence[str]:
        """Names, as `Documents` says."""
        query = self._sql("SELECT name FROM {schema}.documents WHERE starts_with(name, %s) ORDER BY name")
        async with self._transaction() as connection:
            return [str(name) for (name,) in await (await connection.execute(query, [prefix])).fetchall()]

    async def read_many(self, names: Sequence[str]) -> Mapping[str, Document]:
        """Documents, as `Documents` says."""
        found: dict[str, Document] = {}
        query = self._sql(
            "SELECT name, tag, CASE WHEN length(content) <= %s THEN content END FROM {schema}.documents "
            "WHERE name = ANY(%s)"
        )
        async with self._transaction() as connection:
            for start in range(0, len(names), _READ_AT_ONCE):
                page = list(names[start : start + _READ_AT_ONCE])
                for name, tag, content in await (await connection.execute(query, [MAX_DOCUMENT, page])).fetchall():
                    if content is None:
                        raise DestinationAlteredError(f"{name} at {self.destination} is larger than any document")
                    found[name] = Document(bytes(content), str(tag))
        return found

    async def apply(self, changes: Sequence[Change]) -> Sequence[str]:
        """One transaction, as `Documents` says: all of it, or nothing."""
        async with self._transaction() as connection:
            return [await self._apply(connection, change) for change in changes]

    async def _apply(self, connection: AsyncConnection, change: Change) -> str:
        if change.expected is None:
            if change.content is None:
                return ""
            query = (
                "INSERT INTO {schema}.documents (name, content, tag) VALUES (%s, %s, nextval({tags})) "
                "ON CONFLICT DO NOTHING RETURNING tag"
            )
            parameters: list[object] = [change.name, change.content]
        elif change.content is None:
            query = "DELETE FROM {schema}.documents WHERE name = %s AND tag = %s RETURNING 0"
            parameters = [change.name, _number(change.expected)]
        else:
            query = (
                "UPDATE {schema}.documents SET content = %s, tag = nextval({tags}), changed_at = now() "
                "WHERE name = %s AND tag = %s RETURNING tag"
            )
            parameters = [change.content, change.name, _number(change.expected)]
        row = await (await connection.execute(self._sql(query), parameters)).fetchone()
        if row is None:
            raise DocumentConflictError(change.name)
        return "" if change.content is None else str(row[0])

    def _sql(self, text: str) -> sql.Composed:
        tags = sql.Literal(f'"{self._schema}".tags')
        return sql.SQL(text).format(schema=sql.Identifier(self._schema), tags=tags)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on the one connection, which is made anew when it is broken."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._timeout):
                    connection = await self._connected()
                    async with connection.transaction():
                        yield connection
            except TimeoutError:
                await self.close()
                raise StoreUnavailableError(f"{self.destination} does not answer in {self._timeout:g} s") from None
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName) as exc:
                raise StoreRefusedError(f"{self.destination} refuses: {type(exc).__name__}") from None
            except psycopg.Error as exc:
                # Without the cause, which may quote the connection string or a row.
                await self.close()
                if isinstance(exc, psycopg.OperationalError) and exc.sqlstate is None and _is_refusal(exc):
                    raise StoreRefusedError(f"{self.destination} refuses the connection") from None
                raise StoreUnavailableError(f"{self.destination} cannot be reached: {type(exc).__name__}") from None

    async def _connected(self) -> AsyncConnection:
        if self._connection is None or self._connection.closed:
            self._connection = await AsyncConnection.connect(self._conninfo, autocommit=True)
        return self._connection


def _is_refusal(exc: psycopg.OperationalError) -> bool:
    """Whether a server has answered, and said no: psycopg has no SQLSTATE for what comes before the session."""
    said = str(exc)
    return any(each in said for each in ("authentication failed", "no pg_hba.conf entry", "does not exist"))


def _number(tag: str) -> int:
    return int(tag) if tag.isascii() and tag.isdigit() else -1


def _parsed(dsn: Secret) -> dict[str, str | int | None]:
    """The parts of a connection string.

    Raises:
        DestinationSettingsError: it names no server, or the way there is not safe.
    """
    try:
        given: dict[str, str | int | None] = dict(conninfo_to_dict(dsn.reveal()))
    except psycopg.ProgrammingError:
        raise DestinationSettingsError("pgstore_dsn is no connection string of PostgreSQL") from None
    host = str(given.get("host") or "")
    if not host or not given.get("dbname") or "," in host or "," in str(given.get("hostaddr") or ""):
        raise DestinationSettingsError("pgstore_dsn must name one host and one database")
    if not _is_here(host) and given.get("sslmode") != "verify-full":
        raise DestinationSettingsError("pgstore_dsn must have sslmode=verify-full, unless it is for this machine")
    if "service" in given or "options" in given:
        raise DestinationSettingsError("pgstore_dsn must have neither service nor options")
    return given


def _is_here(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
