"""`/api/upstream-secrets`: values go in and never come out, and go to one destination (G2), on each database."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.interfaces import Topic
from api_server.routing.secrets import seal_context
from api_server.routing.tables import upstream_secrets
from api_server.teams.roles import Role
from common.crypto.errors import SealBrokenError
from tests.api_server.people import PROGRAM, Home
from tests.api_server.routing.stage import BACKEND, TO_LATHE, code_of, made, route, secret

pytestmark = pytest.mark.anyio

BEARER = {"kind": "bearer", "secret": "key"}
TO_BACKEND = {"kind": "url", "url": f"{BACKEND}/v1"}


async def stored(home: Home) -> Any:
    async def work(tx: AsyncConnection) -> Any:
        return (await tx.execute(select(upstream_secrets))).one()

    return await home.database.read(work)


async def test_a_value_goes_in_and_never_comes_out(home: Home) -> None:
    kept = await secret(home, value="tOps3cret")
    assert kept | {"id": ""} == {
        "id": "",
        "name": "key",
        "team": "home",
        "destination": BACKEND,
        "version": 1,
        "created_at": home.clock.wall(),
        "created_by": f"token:{PROGRAM.id}",
        "updated_at": home.clock.wall(),
    }
    for name in ("key", kept["id"]):
        assert (await home.call("GET", f"/api/upstream-secrets/{name}", PROGRAM)).json() == kept
    assert (await home.call("GET", "/api/upstream-secrets", PROGRAM)).json() == {"items": [kept], "next": None}
    row = await stored(home)
    assert "tOps3cret" not in repr(row)
    assert "tOps3cret" not in repr(home.audit.lines)
    opened = home.domains.envelope.open(row.value, seal_context(kept["team"], kept["id"], "key", 1))
    assert opened.reveal() == b"tOps3cret"
    with pytest.raises(SealBrokenError):
        home.domains.envelope.open(row.value, seal_context(kept["team"], kept["id"], "key", 2))


async def test_another_value(home: Home) -> None:
    kept = await secret(home)
    made_one = await route(home, target=TO_BACKEND, auth=BEARER)
    answer = await home.call("PATCH", "/api/upstream-secrets/key", PROGRAM, json={"value": "other"})
    assert answer.json() == kept | {"version": 2}
    row = await stored(home)
    assert home.domains.envelope.open(row.value, seal_context(kept["team"], kept["id"], "key", 2)).reveal() == b"other"
    assert home.changes.announced[-1].topic is Topic.ROUTES
    assert home.changes.announced[-1].subject == made_one["id"]


@pytest.mark.parametrize("value", ["", "a\nb", "a\r\nX: y", " a", "a ", "ä", "a\x00", "a" * 4097])
async def test_what_cannot_stand_in_a_head_is_refused(home: Home, value: str) -> None:
    body = {"name": "key", "destination": BACKEND, "value": value}
    assert await code_of(home, "POST", "/api/upstream-secrets", body) == (422, "validation_failed")


async def test_g2_a_secret_is_for_one_destination(home: Home) -> None:
    await secret(home)
    await route(home, target=TO_BACKEND, auth=BEARER)
    elsewhere = (
        {"kind": "url", "url": "https://api.example.org:8443/v1"},
        {"kind": "url", "url": "https://api.example.org.evil.test/"},
        {"kind": "url", "url": "https://example.org/"},
        TO_LATHE,
        {"kind": "device", "label": "tools", "service": "web"},
    )
    for number, target in enumerate(elsewhere):
        body = {"name": f"n{number}", "path": f"/{number}", "target": target, "auth": BEARER}
        refused = (422, "upstream_secret_elsewhere")
        assert await code_of(home, "POST", "/api/routes", body) == refused, target
        assert await code_of(home, "PATCH", "/api/routes/lathe", {"target": target}) == refused, target
    for same in ("https://API.example.org/", "https://api.example.org:443/x"):
        changed = await home.call("PATCH", "/api/routes/lathe", PROGRAM, json={"target": {"kind": "url", "url": same}})
        assert changed.status_code == 200, changed.text


async def test_g2_a_secret_of_a_device_is_not_for_another_that_takes_its_name(home: Home) -> None:
    kept = await secret(home, destination="device:lathe/web")
    device = (await home.call("GET", "/api/devices/lathe", PROGRAM)).json()["id"]
    assert kept["destination"] == f"device:{device}/web"
    await route(home, auth=BEARER)
    body = {"name": "ssh", "path": "/ssh", "target": TO_LATHE | {"service": "ssh"}, "auth": BEARER}
    assert await code_of(home, "POST", "/api/routes", body) == (422, "upstream_secret_elsewhere")
    await home.call("DELETE", "/api/devices/lathe", PROGRAM)
    await made(home, "/api/devices", {"name": "lathe"})
    body = {"name": "again", "path": "/again", "target": TO_LATHE, "auth": BEARER}
    assert await code_of(home, "POST", "/api/routes", body) == (422, "upstream_secret_elsewhere")


async def test_a_secret_for_the_devices_of_a_label(home: Home) -> None:
    kept = await secret(home, destination="label:tools/web")
    assert kept["destination"] == "label:tools/web"
    await route(home, target={"kind": "device", "label": "tools", "service": "web"}, auth=BEARER)
    for wrong in ("label:tools", "label:/web", "device:nobody/web", "device:lathe/Web", "label:a b/web"):
        body = {"name": "x", "destination": wrong, "value": "v"}
        assert await code_of(home, "POST", "/api/upstream-secrets", body) == (422, "validation_failed"), wrong


async def test_one_that_routes_show_stays(home: Home) -> None:
    await secret(home)
    await route(home, target=TO_BACKEND, auth=BEARER)
    assert await code_of(home, "DELETE", "/api/upstream-secrets/key") == (409, "upstream_secret_in_use")
    await home.call("PATCH", "/api/routes/lathe", PROGRAM, json={"auth": {"kind": "none"}})
    assert (await home.call("DELETE", "/api/upstream-secrets/key", PROGRAM)).status_code == 204
    assert await code_of(home, "GET", "/api/upstream-secrets/key") == (404, "no_such_upstream_secret")
    assert home.audit.actions[-1] == "upstream_secret.deleted"


async def test_names_are_unique_in_a_team(home: Home) -> None:
    await secret(home)
    body = {"name": "key", "destination": BACKEND, "value": "v"}
    assert await code_of(home, "POST", "/api/upstream-secrets", body) == (409, "upstream_secret_name_taken")
    assert await code_of(home, "POST", "/api/upstream-secrets", body | {"name": "No"}) == (422, "validation_failed")


async def test_a1_a_developer_changes_own_secrets_only(home: Home) -> None:
    await secret(home)
    dev = await home.person("dev", home=Role.DEVELOPER)
    await made(home, "/api/upstream-secrets", {"name": "own", "destination": BACKEND, "value": "v"}, dev)
    assert await code_of(home, "PATCH", "/api/upstream-secrets/key", {"value": "x"}, dev) == (403, "forbidden")
    assert await code_of(home, "DELETE", "/api/upstream-secrets/key", None, dev) == (403, "forbidden")
    assert (await home.call("PATCH", "/api/upstream-secrets/own", dev, json={"value": "x"})).status_code == 200
    boss = await home.person("boss", home=Role.MANAGER)
    assert (await home.call("PATCH", "/api/upstream-secrets/own", boss, json={"value": "y"})).status_code == 200
    assert (await home.call("DELETE", "/api/upstream-secrets/own", dev)).status_code == 204
