"""The table in memory: changes that are heard of, changes that are not, and a database that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.db.engine import Kind
from api_server.devices.tables import device_labels
from api_server.routing.tables import routes
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.people import PROGRAM
from tests.api_server.routing.routed import Routed, echo, routed
from tests.api_server.routing.stage import route
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

TO_CAM = {"kind": "device", "device": "cam", "service": "web"}
TO_TOOLS = {"kind": "device", "label": "tools", "service": "web"}


@pytest.fixture
async def here(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Routed]:
    with fresh_database(Kind.SQLITE) as url:
        async with routed(url, signer, web=echo) as stage:
            yield stage


def known(here: Routed, path: bytes) -> str | None:
    """The name of the route of a path."""
    found = here.table.route(b"gw", path)
    return None if found is None else found.target.name


async def test_each_change_is_there_after_the_next_turn(here: Routed) -> None:
    made = await route(here.home, "one", "/one", target=TO_CAM)
    assert known(here, b"/one") is None
    await here.table.catch_up()
    assert known(here, b"/one/x") == "one"
    await here.home.call("PATCH", "/api/routes/one", PROGRAM, json={"path": "/two", "name": "two"})
    await here.table.catch_up()
    assert (known(here, b"/one/x"), known(here, b"/two")) == (None, "two")
    await here.home.call("DELETE", f"/api/routes/{made['id']}", PROGRAM)
    await here.table.catch_up()
    assert (known(here, b"/two"), len(here.table)) == (None, 0)


async def test_paths_that_are_swapped_stay_with_their_routes(here: Routed) -> None:
    await route(here.home, "one", "/one", target=TO_CAM)
    await route(here.home, "two", "/two", target=TO_CAM)
    await here.table.catch_up()
    for name, path in (("one", "/x"), ("two", "/one"), ("one", "/two")):
        await here.home.call("PATCH", f"/api/routes/{name}", PROGRAM, json={"path": path})
    await here.table.catch_up()
    assert [known(here, path) for path in (b"/one", b"/two", b"/x")] == ["two", "one", None]


async def test_it_follows_by_itself(here: Routed) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(here.table.run())
        await route(here.home, "one", "/one", target=TO_CAM)
        await here.stage.until(lambda: known(here, b"/one") == "one")
        await here.home.call("DELETE", "/api/routes/one", PROGRAM)
        await here.stage.until(lambda: known(here, b"/one") is None)
        running.cancel()


async def test_the_reconciling_adds_puts_right_and_removes(here: Routed) -> None:
    """What was changed behind everybody's back."""
    for name in ("stays", "differs", "goes"):
        await route(here.home, name, f"/{name}", target=TO_CAM)
    await here.table.catch_up()

    async def tamper(tx: AsyncConnection) -> None:
        row = (await tx.execute(routes.select().where(routes.c.name == "goes"))).one()._mapping
        await tx.execute(delete(routes).where(routes.c.name == "goes"))
        await tx.execute(update(routes).where(routes.c.name == "differs").values(path="/else", version=2))
        await tx.execute(insert(routes).values({**row, "id": "rte_new", "name": "new", "path": "/new"}))

    await here.home.database.write(tamper)
    before = here.table.route(b"gw", b"/stays")
    await here.table.catch_up()
    assert known(here, b"/goes") == "goes"  # nobody has said anything
    here.table.all_changed()
    await here.table.catch_up()
    paths = (b"/stays", b"/differs", b"/else", b"/goes", b"/new")
    assert [known(here, path) for path in paths] == ["stays", None, "differs", None, "new"]
    after = here.table.route(b"gw", b"/stays")
    assert before is not None
    assert after is not None
    assert after.target is before.target  # what is right is left alone


async def test_labels_are_followed_and_reconciled(here: Routed) -> None:
    await route(here.home, "tools", "/tools", target=TO_TOOLS)
    await here.table.catch_up()
    assert (await here.get("/tools")).code == "no_healthy_device"
    await here.home.call("PATCH", "/api/devices/cam", PROGRAM, json={"labels": ["tools"]})
    await here.table.catch_up()
    assert (await here.get("/tools")).status == 200

    async def tamper(tx: AsyncConnection) -> None:
        await tx.execute(delete(device_labels))

    await here.home.database.write(tamper)
    here.table.all_changed()
    await here.table.catch_up()
    assert (await here.get("/tools")).code == "no_healthy_device"


async def test_while_the_database_is_away_the_last_table_stays(
    fresh_database: FreshDatabase, signer: SessionTokenSigner
) -> None:
    with fresh_database(Kind.SQLITE) as url:
        async with routed(url, signer, web=echo) as here:
            await route(here.home, "one", "/one", target=TO_CAM)
            assert await here.table.catch_up()
            await here.home.database.close()
            here.table.all_changed()
            assert not await here.table.catch_up()
            assert not await here.table.catch_up()
            assert (await here.get("/one")).status == 200


async def test_a_team_that_is_deleted_takes_its_routes_along(here: Routed) -> None:
    await here.home.team("away")
    zoe = await here.home.person("zoe", away=Role.ADMIN)
    admin = here.home.people["hp_admin-of-away"]
    await here.home.call("DELETE", f"/api/teams/away/members/{admin.id}", zoe)
    await route(here.home, "theirs", "/theirs", zoe, target={"kind": "url", "url": "https://api.example.org"})
    await route(here.home, "more", "/more", zoe, target={"kind": "url", "url": "https://api.example.org"})
    await route(here.home, "ours", "/ours", target=TO_CAM)
    await here.table.catch_up()
    assert known(here, b"/theirs") == "theirs"
    deleted = await here.home.call("DELETE", "/api/teams/away", zoe)
    assert deleted.status_code == 204, deleted.text
    await here.table.catch_up()
    assert [known(here, path) for path in (b"/theirs", b"/more", b"/ours")] == [None, None, "ours"]


async def test_ten_thousand_routes(here: Routed) -> None:
    await route(here.home, "seed", "/seed", target=TO_CAM)

    async def fill(tx: AsyncConnection) -> None:
        row = dict((await tx.execute(routes.select())).one()._mapping)
        rows = [
            row | {"id": f"rte_{number}", "name": f"r{number}", "path": f"/team-{number % 100}/r{number}"}
            for number in range(10_000)
        ]
        await tx.execute(insert(routes), rows)

    await here.home.database.write(fill)
    here.table.all_changed()
    assert await here.table.catch_up()
    assert len(here.table) == 10_001
    assert known(here, b"/team-42/r4242/x") == "r4242"
    await here.home.call("PATCH", "/api/routes/seed", PROGRAM, json={"path": "/team-42/seed"})
    await here.table.catch_up()
    assert known(here, b"/team-42/seed") == "seed"
    assert (await here.get("/team-7/r7")).status == 200
    assert here.table.route(b"gw", b"/team-7") is None
