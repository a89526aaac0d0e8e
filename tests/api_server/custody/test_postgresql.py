"""A PostgreSQL of one's own as a store of documents, against a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from api_server.custody.documents.interfaces import Change
from api_server.custody.errors import (
    DestinationSettingsError,
    DocumentConflictError,
    StoreRefusedError,
    StoreUnavailableError,
)
from api_server.custody.postgresql.documents import PostgresDocuments
from api_server.db.engine import Kind
from common.secret import Secret
from tests.databases.fixtures import FreshDatabase
from tests.databases.servers import unreachable

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(fresh_database: FreshDatabase) -> Iterator[str]:
    with fresh_database(Kind.POSTGRESQL, migrated=False) as made:
        yield made


@pytest.fixture
def dsn(url: str) -> str:
    return url.replace("+psycopg", "")


@pytest.fixture
async def documents(dsn: str) -> AsyncIterator[PostgresDocuments]:
    opened = PostgresDocuments(Secret(dsn), "homeport_custody", timeout=20)
    await opened.open()
    yield opened
    await opened.close()


async def test_the_schema_is_made_once_and_has_a_version(documents: PostgresDocuments, dsn: str) -> None:
    others = [PostgresDocuments(Secret(dsn), "homeport_custody", timeout=20) for _ in range(3)]
    await asyncio.gather(*(each.open() for each in others))
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT version FROM homeport_custody.version").fetchall() == [(1,)]
        connection.execute("UPDATE homeport_custody.version SET version = 99")
    with pytest.raises(DestinationSettingsError, match="newer version"):
        await others[0].open()
    for each in others:
        await each.close()


async def test_c3_nothing_of_a_batch_is_done_when_one_document_is_another_by_now(documents: PostgresDocuments) -> None:
    await documents.apply([Change("auths/a.json", b"1", None)])
    for tag in ("999999", "nonsense", "", None):
        with pytest.raises(DocumentConflictError, match=r"auths/a\.json"):
            await documents.apply([Change("auths/b.json", b"2", None), Change("auths/a.json", b"3", tag)])
    assert await documents.names("") == ["auths/a.json"]


async def test_a_server_that_went_away_is_unavailable_and_is_found_again(
    documents: PostgresDocuments, url: str
) -> None:
    with unreachable(url), pytest.raises((StoreUnavailableError, StoreRefusedError)):
        await documents.refresh()
    await documents.refresh()


async def test_a_database_that_is_not_there_is_refused_and_the_password_not_shown(dsn: str) -> None:
    wrong = dsn.replace("/test_", "/no_") if "/test_" in dsn else dsn
    documents = PostgresDocuments(Secret(f"{wrong}&password=hunter2" if "?" in wrong else wrong), "s", timeout=20)
    with pytest.raises((StoreRefusedError, StoreUnavailableError)) as caught:
        await documents.open()
    assert "hunter2" not in f"{caught.value.detail} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nonsense",
        "postgresql:///name",
        "postgresql://db.example.org/name",
        "postgresql://u:hunter2@db.example.org/name?sslmode=require",
        "postgresql://a.example.org,b.example.org/name?sslmode=verify-full",
        "postgresql://u:hunter2@127.0.0.1",
        "postgresql://127.0.0.1/name?options=-csearch_path%3Dx",
        "service=x host=127.0.0.1 dbname=y",
    ],
)
def test_c5_a_connection_string_that_is_not_safe_is_refused(given: str) -> None:
    with pytest.raises(DestinationSettingsError, match="pgstore_dsn") as caught:
        PostgresDocuments(Secret(given), "s")
    assert "hunter2" not in caught.value.detail


def test_c5_the_destination_names_host_database_and_schema_alone() -> None:
    documents = PostgresDocuments(
        Secret("postgresql://u:hunter2@db.example.org:5433/name?sslmode=verify-full"), "custody"
    )
    assert documents.destination == "postgresql db.example.org:5433/name custody"
