"""Transactions: the only way to the tables.

    read(work)     one transaction that changes nothing
    write(work)    one transaction; run anew, as often as is sensible, when other transactions were in its way

`work` gets the connection, does its SQL and returns; it must not do anything else that cannot be done twice. What has
begun is carried to its end even if whoever asked has gone meanwhile, so that no transaction is cut in two.

On SQLite the writers of one process wait in line here: its own lock is handed on without any order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api_server.db.engine import IMMEDIATE, Failure, Kind, failure_of, kind_of, new_engine, parse_url, shown
from api_server.db.errors import DatabaseConflictError, DatabaseUnavailableError
from api_server.db.revisions import check_revision
from common.backoff import Backoff
from common.secret import Secret

__all__ = ["Database", "written"]

T = TypeVar("T")

_ATTEMPTS = 10
"""Of a write; with the back-off below that is two seconds on average, spent waiting."""

_PING = 2.0
"""Seconds in which a database that is well answers the least of questions."""

_RETRY_AFTER = 2.0
"""Seconds that a client should wait when the database is unavailable."""


class Database:
    """A database that is open. Close it.

    Args:
        engine: speaks to it.
        kind: of database.
        name: for logs, without secrets.
        sleep: waits for so many seconds.
        deadline: seconds in which one transaction must be over.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        kind: Kind,
        name: str,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        deadline: float = 30.0,
    ) -> None:
        self._engine = engine
        self.kind = kind
        self.name = name
        self._sleep = sleep
        self._deadline = deadline
        self._writers = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    @classmethod
    def connect(
        cls, url: Secret | str, *, pool_size: int = 10, deadline: float = 30.0, must_exist: bool = False
    ) -> Database:
        """A database by its URL. Nothing is sent yet; `check` finds out whether it is there.

        Args:
            url: `sqlite:////path/to/file`, `postgresql+psycopg://...`, `mysql+asyncmy://...`.
            pool_size: most connections at a time.
            deadline: seconds in which one transaction must be over, the wait for a connection included.
            must_exist: a file of SQLite must be there; otherwise an empty one is made.

        Raises:
            DatabaseUrlError: it names no database that can be used.
            DatabaseUnavailableError: the file of SQLite is not there, or cannot be made.
        """
        parsed = parse_url(url)
        engine = new_engine(parsed, pool_size=pool_size, deadline=deadline, must_exist=must_exist)
        return cls(engine, kind_of(parsed), shown(parsed), deadline=deadline)

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What `work` returns, out of a transaction that changes nothing.

        Raises:
            DatabaseUnavailableError: the database cannot be reached, or is too busy.
        """
        return await self._to_the_end(self._attempts(work, writes=False))

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What `work` returns, once all that it has done is in the database. When it raises, nothing of it is.

        Raises:
            DatabaseUnavailableError: the database cannot be reached, or is too busy. If it went away at the very end,
                it is not known whether the transaction holds; the detail says so.
            DatabaseConflictError: a constraint does not hold, and `work` had not expected that.
        """
        return await self._to_the_end(self._attempts(work, writes=True))

    async def check(self) -> None:
        """Find out whether the database is there, and has the schema of this code.

        Raises:
            DatabaseUnavailableError: it cannot be reached.
            DatabaseSchemaError: its schema is another; the detail says what to do.
        """
        await self.read(check_revision)

    async def ping(self) -> None:
        """Find out whether the database answers, within seconds.

        Raises:
            DatabaseUnavailableError: it does not.
        """
        await self._to_the_end(self._attempts(_select_one, writes=False, deadline=min(_PING, self._deadline)))

    async def close(self) -> None:
        """Wait for what has begun, and close the connections. Twice is no error."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def administer(self) -> AsyncIterator[AsyncConnection]:
        """A connection of one's own, for migrations; transactions are the caller's."""
        try:
            connection = await self._connect()
            try:
                yield connection
            finally:
                await connection.close()
        except (SQLAlchemyError, OSError) as exc:
            if failure_of(exc) is Failure.FAULT:
                raise
            raise self._unavailable("cannot be reached") from exc

    async def _connect(self) -> AsyncConnection:
        """A new connection. On SQLite the first ones to a new file get into each other's way, without waiting."""
        backoff = Backoff(base=0.02, maximum=0.5)
        for remaining in reversed(range(_ATTEMPTS)):
            try:
                return await self._engine.connect().start()
            except SQLAlchemyError as exc:
                if failure_of(exc) is not Failure.AGAIN or not remaining:
                    raise
            await self._sleep(backoff.next_delay())
        raise AssertionError("the last attempt returns or raises")

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, which goes on when this call is cancelled."""
        if self._closed:
            work.close()
            raise self._unavailable("is closed")
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to look at it

    async def _attempts(
        self, work: Callable[[AsyncConnection], Awaitable[T]], *, writes: bool, deadline: float | None = None
    ) -> T:
        backoff = Backoff(base=0.02, maximum=0.5)
        for remaining in reversed(range(_ATTEMPTS)):
            try:
                async with asyncio.timeout(self._deadline if deadline is None else deadline):
                    return await self._transaction(work, writes=writes)
            except (SQLAlchemyError, OSError) as exc:  # a TimeoutError is an OSError
                match failure_of(exc):
                    case Failure.CONFLICT:
                        raise DatabaseConflictError("it conflicts with what is in the database") from exc
                    case Failure.UNAVAILABLE:
                        raise self._unavailable("cannot be reached, or cannot write") from exc
                    case Failure.FAULT:
                        raise
                    case Failure.AGAIN:
                        if not remaining:
                            raise self._unavailable("is too busy") from exc
            await self._sleep(backoff.next_delay())
        raise AssertionError("the last attempt returns or raises")

    async def _transaction(self, work: Callable[[AsyncConnection], Awaitable[T]], *, writes: bool) -> T:
        turn = self._writers if writes and self.kind is Kind.SQLITE else contextlib.nullcontext()
        async with turn, self._engine.connect() as connection:
            if writes:
                await connection.execution_options(**{IMMEDIATE: True})
            transaction = await connection.begin()
            try:
                result = await work(connection)
            except BaseException:
                await transaction.rollback()
                raise
            if not writes:
                await transaction.rollback()
                return result
            try:
                await transaction.commit()
            except (SQLAlchemyError, OSError) as exc:
                if failure_of(exc) is Failure.UNAVAILABLE:
                    raise self._unavailable("went away at the commit; whether it holds is not known") from exc
                raise
            return result

    def _unavailable(self, what: str) -> DatabaseUnavailableError:
        return DatabaseUnavailableError(f"the database {what}", retry_after=_RETRY_AFTER)


async def _select_one(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql("SELECT 1")


async def written(database: Database, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """`Database.write`, once more if somebody else has just made a row of the same key: the second time `work` sees it.

    Raises:
        DatabaseConflictError: and again.
    """
    try:
        return await database.write(work)
    except DatabaseConflictError:
        return await database.write(work)
