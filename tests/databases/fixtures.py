"""The fixtures; `tests/conftest.py` hands them to every test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from api_server.db.database import Database
from api_server.db.engine import Kind
from tests.databases.servers import Databases

__all__ = ["FreshDatabase", "database", "database_kind", "database_url", "databases", "fresh_database"]

FreshDatabase = Callable[..., AbstractContextManager[str]]
"""`fresh_database(kind)` or `fresh_database(kind, migrated=False)`: a context manager that gives a URL."""


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """The servers of the run."""
    with Databases(tmp_path_factory.mktemp("databases")) as servers:
        yield servers


@pytest.fixture
def fresh_database(databases: Databases) -> FreshDatabase:
    """Makes databases; the URL of one is what its block gets."""
    return databases.fresh


@pytest.fixture(params=list(Kind), ids=lambda kind: kind.name.lower())
def database_kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of database in turn."""
    kind = request.param
    assert isinstance(kind, Kind)
    return kind


@pytest.fixture
def database_url(database_kind: Kind, fresh_database: FreshDatabase) -> Iterator[str]:
    """A migrated database of each kind in turn, as its URL."""
    with fresh_database(database_kind) as url:
        yield url


@pytest.fixture
async def database(anyio_backend: str, database_url: str) -> AsyncIterator[Database]:
    """A migrated database of each kind in turn, open."""
    async with Database.connect(database_url) as opened:
        yield opened
