"""Two API servers, a relay and a database: what one changes, the other knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.interfaces import Change, Topic
from api_server.db.database import Database
from api_server.server import ApiServer
from common.ids import TeamId
from tests.api_server.changes.listening import ALL, Listening
from tests.api_server.test_server import running, settings
from tests.contract.relay_fixture import RunningRelay, running_relay

pytestmark = pytest.mark.anyio

REVOKED = Change(topic=Topic.TOKENS, team=TeamId("home"), subject="tok_1", event="token.revoked", data={"name": "ci"})


@asynccontextmanager
async def two(folder: Path, relay: RunningRelay) -> AsyncIterator[tuple[ApiServer, Listening, Listening]]:
    """The first server, and what is heard at each once both follow."""
    given = settings(folder, relay_url=relay.internal_url)
    async with ApiServer(given) as first, ApiServer(given) as second:
        here, there = Listening(), Listening()
        first.changes.add(here)
        second.changes.add(there)
        yield first, here, there


async def change(folder: Path, server: ApiServer, what: Change) -> None:
    """What a domain of that server would do."""
    async with Database.connect(f"sqlite:///{folder}/homeport.db") as database:

        async def work(tx: AsyncConnection) -> Change:
            return await server.domains.changes.record(tx, what)

        await server.domains.changes.announce([await database.write(work)])


async def test_a_change_is_heard_at_the_other_and_shown_to_who_follows_it(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, two(tmp_path, relay) as (first, here, there):
        await relay.until(lambda: first.changes.fresh())
        async with running(tmp_path, relay) as (_, http), http.stream("GET", "/api/events") as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            await change(tmp_path, first, REVOKED)
            assert "tok_1" in here.heard, "at once, where it is changed"
            while await anext(lines) != "event: token.revoked":
                pass
            data = await anext(lines)
            assert '"subject":"tok_1"' in data
            assert '"data":{"name":"ci"}' in data
        await there.until(lambda heard: "tok_1" in heard)


async def test_without_a_bus_the_database_tells(tmp_path: Path) -> None:
    stack = AsyncExitStack()
    relay = await stack.enter_async_context(running_relay(tmp_path))
    async with stack, two(tmp_path, relay) as (first, here, there):
        await there.until(lambda heard: bool(heard))
        await stack.aclose()
        there.heard.clear()
        await change(tmp_path, first, REVOKED)
        assert "tok_1" in here.heard
        await there.until(lambda heard: ALL in heard)
