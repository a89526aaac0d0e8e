"""`/api/routes`: what may be done with routes, on each database."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from api_server.changes.interfaces import Change, Topic
from api_server.teams.roles import Role
from tests.api_server.people import PROGRAM, Home
from tests.api_server.routing.stage import BACKEND, TO_LATHE, code_of, made, route, secret

pytestmark = pytest.mark.anyio


async def test_a_route_is_made_shown_listed_changed_and_deleted(home: Home) -> None:
    made_one = await route(home, tags=["b", "a", "b"], path="/lathe/")
    assert re.fullmatch("rte_[0-9a-f]{32}", made_one["id"])
    assert made_one | {"id": ""} == {
        "id": "",
        "name": "lathe",
        "team": "home",
        "path": "/lathe",
        "target": TO_LATHE,
        "tags": ["a", "b"],
        "auth": {"kind": "none"},
        "strip_prefix": True,
        "health": None,
        "cors": None,
        "inspect": False,
        "version": 1,
        "created_at": home.clock.wall(),
        "created_by": f"token:{PROGRAM.id}",
        "updated_at": home.clock.wall(),
    }
    for name in ("lathe", made_one["id"]):
        assert (await home.call("GET", f"/api/routes/{name}", PROGRAM)).json() == made_one
    assert (await home.call("GET", "/api/routes", PROGRAM)).json() == {"items": [made_one], "next": None}
    home.clock.advance(5)
    changed = await home.call("PATCH", "/api/routes/lathe", PROGRAM, json={"tags": [], "strip_prefix": False})
    expected = {"tags": [], "strip_prefix": False, "version": 2, "updated_at": home.clock.wall()}
    assert changed.json() == made_one | expected
    assert (await home.call("DELETE", "/api/routes/lathe", PROGRAM)).status_code == 204
    assert await code_of(home, "GET", "/api/routes/lathe") == (404, "no_such_route")
    assert await code_of(home, "DELETE", "/api/routes/lathe") == (404, "no_such_route")
    assert home.audit.actions[-3:] == ["route.created", "route.changed", "route.deleted"]
    line = home.audit.lines[-2]
    assert line.before is not None
    assert line.after is not None
    assert (line.before["tags"], line.after["tags"]) == (["a", "b"], [])


async def test_every_change_is_told_to_the_gateways(home: Home) -> None:
    made_one = await route(home)
    await home.call("PATCH", "/api/routes/lathe", PROGRAM, json={"tags": ["a"]})
    await home.call("DELETE", "/api/routes/lathe", PROGRAM)
    told = [change for change in home.changes.announced if change.topic is Topic.ROUTES]
    assert [(change.team, change.subject) for change in told] == [("home", made_one["id"])] * 3
    generations = [change.generation for change in told]
    assert None not in generations
    assert generations == sorted(set(generations), key=generations.index)


async def test_routes_are_listed_by_name_page_by_page(home: Home) -> None:
    for name in ("c", "a", "b"):
        await route(home, name, f"/{name}")
    first = (await home.call("GET", "/api/routes?limit=2", PROGRAM)).json()
    assert [each["name"] for each in first["items"]] == ["a", "b"]
    second = (await home.call("GET", f"/api/routes?limit=2&cursor={first['next']}", PROGRAM)).json()
    assert ([each["name"] for each in second["items"]], second["next"]) == (["c"], None)


async def test_a_change_for_another_version_is_refused_and_one_of_two_at_once_wins(home: Home) -> None:
    await route(home)
    answers = await asyncio.gather(
        *(
            home.call("PATCH", "/api/routes/lathe", PROGRAM, json={"version": 1, "tags": [f"t{number}"]})
            for number in range(5)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"route_changed"}
    assert await code_of(home, "DELETE", "/api/routes/lathe?version=1") == (409, "route_changed")
    same = await home.call("PATCH", "/api/routes/lathe", PROGRAM, json={"version": 2})
    assert same.json()["version"] == 2  # nothing was changed
    assert (await home.call("DELETE", "/api/routes/lathe?version=2", PROGRAM)).status_code == 204


async def test_a_change_that_cannot_be_made_whole_is_not_made_at_all(home: Home) -> None:
    before = await route(home)
    for wrong in ({"tags": ["x"], "path": "/d/x"}, {"name": "mill", "target": TO_LATHE | {"device": "nobody"}}):
        assert (await code_of(home, "PATCH", "/api/routes/lathe", wrong))[0] == 422
    assert (await home.call("GET", "/api/routes/lathe", PROGRAM)).json() == before


async def test_g1_ties_are_refused_when_saved(home: Home) -> None:
    await route(home)
    body = {"name": "other", "target": TO_LATHE}
    for path in ("/lathe", "/lathe/", "/%6cathe"):
        assert await code_of(home, "POST", "/api/routes", body | {"path": path}) == (409, "route_path_taken")
    await route(home, "other", "/lathe/more")
    assert await code_of(home, "PATCH", "/api/routes/other", {"path": "/lathe"}) == (409, "route_path_taken")
    assert await code_of(home, "PATCH", "/api/routes/other", {"name": "lathe"}) == (409, "route_name_taken")
    answers = await asyncio.gather(
        *(
            home.call("POST", "/api/routes", PROGRAM, json={"name": f"n{number}", "path": "/one", "target": TO_LATHE})
            for number in range(5)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    named = await asyncio.gather(
        *(
            home.call("POST", "/api/routes", PROGRAM, json={"name": "same", "path": f"/{number}", "target": TO_LATHE})
            for number in range(5)
        )
    )
    assert sorted(answer.status_code for answer in named) == [201, 409, 409, 409, 409]


async def test_no_team_publishes_below_or_above_the_path_of_another(home: Home) -> None:
    await home.team("away")
    zoe = await home.person("zoe", away=Role.ADMIN)
    await made(home, "/api/devices", {"name": "lathe"}, zoe)
    await route(home, path="/acme/billing")
    for path in ("/acme", "/acme/billing", "/acme/billing/v1"):
        body = {"name": "mine", "path": path, "target": TO_LATHE}
        assert await code_of(home, "POST", "/api/routes", body, zoe) == (409, "route_path_taken"), path
    await route(home, "beside", "/acme/billing-2", zoe)
    await route(home, "all", "/", zoe)
    await route(home, "below", "/acme/billing/v1")
    assert await code_of(home, "PATCH", "/api/routes/beside", {"path": "/acme/billing/x"}, zoe) == (
        409,
        "route_path_taken",
    )


async def test_a2_the_routes_and_secrets_of_another_team_are_not_found(home: Home) -> None:
    made_one, kept = await route(home), await secret(home)
    await home.team("away")
    zoe = await home.person("zoe", away=Role.ADMIN)
    for method in ("GET", "PATCH", "DELETE"):
        body = {"PATCH": {"value": "x"}} if method == "PATCH" else {}
        for name in ("lathe", made_one["id"]):
            answer = await home.call(method, f"/api/routes/{name}", zoe, json={} if method == "PATCH" else None)
            assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")
        for name in ("key", kept["id"]):
            answer = await home.call(method, f"/api/upstream-secrets/{name}", zoe, json=body.get(method))
            assert (answer.status_code, answer.json()["code"]) == (404, "no_such_upstream_secret")
    # Nor can they be used.
    await made(home, "/api/devices", {"name": "mill"}, zoe)
    body = {"name": "x", "path": "/x", "target": {"kind": "url", "url": BACKEND}}
    auth = {"auth": {"kind": "bearer", "secret": "key"}}
    assert await code_of(home, "POST", "/api/routes", body | auth, zoe) == (404, "no_such_upstream_secret")
    assert await code_of(home, "POST", "/api/routes", body | {"target": TO_LATHE}, zoe) == (422, "validation_failed")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Not a name"},
        {"name": "a" * 41},
        {"path": "/a/../b"},
        {"path": "/a%2fb"},
        {"path": "lathe"},
        {"target": {"kind": "device", "service": "web"}},
        {"target": TO_LATHE | {"label": "cameras"}},
        {"target": TO_LATHE | {"device": "nobody"}},
        {"target": TO_LATHE | {"service": "no name"}},
        {"target": TO_LATHE | {"more": 1}},
        {"target": {"kind": "else"}},
        {"target": {"kind": "url", "url": "https://api.example.org/a/../b"}},
        {"target": {"kind": "url", "url": "https://api.example.org/?a=b"}},
        {"tags": ["no tag"]},
        {"tags": [f"t{number}" for number in range(21)]},
        {"auth": {"kind": "bearer"}},
        {"auth": {"kind": "none", "secret": "key"}},
        {"auth": {"kind": "else", "secret": "key"}},
        {"auth": {"kind": "bearer", "secret": "key", "header": "X-Key"}},
        {"auth": {"kind": "api-key", "secret": "key", "header": "Host"}},
        {"auth": {"kind": "api-key", "secret": "key", "header": "Content-Length"}},
        {"auth": {"kind": "api-key", "secret": "key", "header": "Connection"}},
        {"auth": {"kind": "api-key", "secret": "key", "header": "Cookie"}},
        {"auth": {"kind": "api-key", "secret": "key", "header": "X-Homeport-Key"}},
        {"auth": {"kind": "api-key", "secret": "key", "header": "X-Key: a\r\nX-More"}},
        {"auth": {"kind": "api-key", "secret": "key", "header": "X_Key"}},
        {"auth": {"kind": "basic", "secret": "key", "username": "a:b"}},
        {"auth": {"kind": "basic", "secret": "key", "username": "a\nb"}},
        {"auth": {"kind": "bearer", "secret": "key", "username": "a"}},
        {"health": {"path": "/"}},
        {"target": {"kind": "device", "label": "all", "service": "web"}, "health": {"path": "/../x"}},
        {"target": {"kind": "device", "label": "all", "service": "web"}, "health": {"path": "/ HTTP/1.1"}},
        {"target": {"kind": "device", "label": "all", "service": "web"}, "health": {"interval": 0}},
        {"unknown": 1},
    ],
)
async def test_what_can_be_no_route_is_refused(home: Home, wrong: dict[str, Any]) -> None:
    await secret(home)
    body = {"name": "lathe", "path": "/lathe", "target": TO_LATHE} | wrong
    assert await code_of(home, "POST", "/api/routes", body) == (422, "validation_failed")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.org",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/",
        "https://user:pass@api.example.org",
        "ftp://api.example.org",
        "https://2130706433/",
        "nothing",
    ],
)
async def test_g3_a_url_that_can_be_no_target_is_refused_when_saved(home: Home, url: str) -> None:
    body = {"name": "x", "path": "/x", "target": {"kind": "url", "url": url}}
    assert await code_of(home, "POST", "/api/routes", body) == (422, "target_refused")
    body = {"name": "x", "destination": url, "value": "v"}
    assert await code_of(home, "POST", "/api/upstream-secrets", body) == (422, "target_refused")


async def test_a_device_is_what_its_name_stood_for_when_the_route_was_saved(home: Home) -> None:
    await route(home)
    await home.call("PATCH", "/api/devices/lathe", PROGRAM, json={"name": "old"})
    shown = (await home.call("GET", "/api/routes/lathe", PROGRAM)).json()
    assert shown["target"]["device"] == "old"
    other = await made(home, "/api/devices", {"name": "lathe"})
    await home.call("PATCH", "/api/routes/lathe", PROGRAM, json={"tags": ["x"]})
    assert (await home.call("GET", "/api/routes/lathe", PROGRAM)).json()["target"]["device"] == "old"
    changed = await home.call(
        "PATCH", "/api/routes/lathe", PROGRAM, json={"target": TO_LATHE | {"device": other["id"]}}
    )
    assert changed.json()["target"]["device"] == other["id"]


async def test_labels_of_devices(home: Home) -> None:
    await made(home, "/api/devices", {"name": "mill", "labels": ["tools", "big", "tools"]})
    shown = (await home.call("GET", "/api/devices/mill", PROGRAM)).json()
    assert shown["labels"] == ["big", "tools"]
    changed = await home.call("PATCH", "/api/devices/lathe", PROGRAM, json={"labels": ["tools"]})
    assert changed.json()["labels"] == ["tools"]
    by_label = (await home.call("GET", "/api/devices?label=tools", PROGRAM)).json()["items"]
    assert [each["name"] for each in by_label] == ["lathe", "mill"]
    assert (await home.call("GET", "/api/devices?label=none", PROGRAM)).json()["items"] == []
    assert await code_of(home, "PATCH", "/api/devices/mill", {"labels": ["Not one"]}) == (422, "validation_failed")
    assert (await home.call("DELETE", "/api/devices/mill", PROGRAM)).status_code == 204
    assert home.audit.actions[-2:] == ["device.labelled", "device.deleted"]
    told = [change.subject for change in home.changes.announced if change.topic is Topic.LABELS]
    assert told == ["big", "tools", "tools", "big", "tools"]


async def test_with_a_team_go_its_routes_and_secrets(home: Home) -> None:
    await home.team("away")
    zoe = await home.person("zoe", away=Role.ADMIN)
    await made(home, "/api/upstream-secrets", {"name": "key", "destination": BACKEND, "value": "v"}, zoe)
    target = {"target": {"kind": "url", "url": BACKEND}, "auth": {"kind": "bearer", "secret": "key"}}
    gone = await made(home, "/api/routes", {"name": "x", "path": "/x", **target}, zoe)
    service = home.domains.routes
    changes = await home.database.write(lambda tx: service.end_team(tx, gone["team"], home.clock.wall()))
    assert [change.subject for change in changes] == [gone["id"]]
    assert all(isinstance(change, Change) for change in changes)
    assert await code_of(home, "GET", "/api/routes/x", who=zoe) == (404, "no_such_route")
    assert await code_of(home, "GET", "/api/upstream-secrets/key", who=zoe) == (404, "no_such_upstream_secret")
    await route(home, "x", "/x")  # the path is free again
