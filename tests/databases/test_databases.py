"""What one test leaves in a database, the next one does not see."""

from __future__ import annotations

import pytest
from sqlalchemy import func, insert, select, update

from api_server.audit.tables import audit_head
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.teams.tables import teams
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio


async def test_each_is_as_the_migrations_left_it(fresh_database: FreshDatabase, database_kind: Kind) -> None:
    for _ in range(2):
        with fresh_database(database_kind) as url:
            async with Database.connect(url) as database:
                assert await database.read(lambda tx: tx.scalar(select(func.count()).select_from(teams))) == 0
                assert (await database.read(lambda tx: tx.execute(select(audit_head)))).all() == [(1, 0, "0" * 64)]
                await database.write(
                    lambda tx: tx.execute(insert(teams).values(id="home", name="", description="", created_at=0.0))
                )
                await database.write(lambda tx: tx.execute(update(audit_head).values(seq=5)))


async def test_two_at_a_time_are_two(fresh_database: FreshDatabase, database_kind: Kind) -> None:
    with fresh_database(database_kind) as one, fresh_database(database_kind) as another:
        assert one != another
