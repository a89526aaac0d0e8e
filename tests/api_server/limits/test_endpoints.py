"""`/api/limits`, and the limits of the REST API itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api_server.changes.interfaces import Topic
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import AWAY
from tests.api_server.people import PROGRAM, Home, Person, running_domains
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

RATE = {"quota": 10, "window": 60, "when_away": "open"}


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


@pytest.fixture
async def one_home(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    """On SQLite: for what never gets as far as the database."""
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database, running_domains(database, signer) as running:
            yield running


async def route(home: Home, who: Person, name: str = "api", team: str = "home") -> str:
    """A new route's id."""
    target = {"kind": "url", "url": "https://api.example.org"}
    body = {"team": team, "name": name, "path": f"/{team}-{name}", "target": target}
    answer = await home.call("POST", "/api/routes", who, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_limits_are_set_shown_and_listed(home: Home) -> None:
    ann, vic = await home.person("ann", home=Role.ADMIN), await home.person("vic", home=Role.VIEWER)
    body = {"requests": RATE, "streams": 5}
    first, second = sorted([await route(home, ann, "one"), await route(home, ann, "two")])
    for path in (first, second):
        answer = await home.call("PUT", f"/api/limits/route/{path}", ann, json=body)
        assert answer.status_code == 200, answer.text
    again = await home.call("PUT", f"/api/limits/route/{second}", ann, json=body)  # MariaDB changes no row then
    assert again.status_code == 200
    page = (await home.call("GET", "/api/limits", vic, params={"limit": 1})).json()
    assert [(each["kind"], each["subject"]) for each in page["items"]] == [("route", first)]
    page = (await home.call("GET", "/api/limits", vic, params={"limit": 1, "cursor": page["next"]})).json()
    assert page["items"][0]["limits"]["streams"] == 5
    assert page["items"][0]["changed_by"] == f"user:{ann.id}"
    assert page["next"] is None
    shown = (await home.call("GET", f"/api/limits/route/{second}", vic)).json()
    assert shown["own"]["requests"] == RATE
    assert (await home.call("GET", "/api/limits/route/two", vic)).json()["own"]["streams"] == 5
    assert (await home.call("PUT", "/api/limits/route/two", ann, json={})).status_code == 200
    assert len((await home.call("GET", "/api/limits", vic)).json()["items"]) == 1
    assert home.audit.actions == ["route.created"] * 2 + ["limits.set"] * 4


async def test_t4_a_token_is_limited_by_its_id(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    body = {"name": "ci", "scopes": ["devices:read"]}
    token = (await home.call("POST", "/api/api-tokens", ann, json=body)).json()["id"]
    assert (await home.call("PUT", f"/api/limits/token/{token}", ann, json={"requests": RATE})).status_code == 200
    await home.domains.limit_watch.load()
    shown = (await home.call("GET", f"/api/limits/token/{token}", ann)).json()
    assert shown["effective"]["requests"] == RATE
    for never in ("tok_never", ann.id, "ci"):
        answer = await home.call("PUT", f"/api/limits/token/{never}", ann, json={"streams": 1})
        assert answer.json()["code"] == "no_such_subject"


async def test_the_change_is_told_and_in_effect(home: Home) -> None:
    name = await route(home, PROGRAM)
    assert (await home.call("PUT", "/api/limits/defaults", PROGRAM, json={"route": {"streams": 7}})).status_code == 200
    await home.domains.limit_watch.load()
    shown = (await home.call("GET", f"/api/limits/route/{name}", PROGRAM)).json()
    assert shown["effective"]["streams"] == 7
    assert home.changes.announced[-1].topic is Topic.LIMITS


async def test_the_installations_limits_are_for_those_who_look_after_it(home: Home) -> None:
    await home.team(AWAY)
    ann, zoe = await home.person("ann", home=Role.ADMIN), await home.person("zoe", away=Role.ADMIN)
    path = f"/api/limits/teams/{AWAY}"
    assert (await home.call("PUT", path, zoe, json={"streams": 1000})).status_code == 403
    assert (await home.call("PUT", "/api/limits/defaults", zoe, json={})).status_code == 403
    assert (await home.call("PUT", path, ann, json={"streams": 10})).status_code == 200
    assert (await home.call("GET", path, ann)).json()["own"]["streams"] == 10
    for method in ("GET", "PUT"):
        answer = await home.call(method, "/api/limits/teams/none", ann, json={} if method == "PUT" else None)
        assert answer.json()["code"] == "no_such_team"
    (seen,) = (await home.call("GET", "/api/limits", zoe, params={"team": AWAY})).json()["items"]
    assert (seen["kind"], seen["subject"], seen["limits"]["streams"]) == ("team", AWAY, 10)
    # Its own ADMIN cannot get around it: not as a kind of subject, and not for another team (A2).
    assert (await home.call("PUT", f"/api/limits/team/{AWAY}", zoe, json={})).status_code == 422
    stolen = await home.call("PUT", "/api/limits/route/api", zoe, params={"team": "home"}, json={"streams": 1})
    assert (stolen.status_code, stolen.json()["code"]) == (404, "no_such_team")


async def test_a2_another_teams_route_is_not_there(home: Home) -> None:
    await home.team(AWAY)
    zoe = await home.person("zoe", away=Role.ADMIN)
    name = await route(home, PROGRAM)
    for subject in (name, "api", "never"):
        answer = await home.call("PUT", f"/api/limits/route/{subject}", zoe, json={"streams": 1})
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_subject")
    await route(home, zoe, "api", AWAY)
    assert (await home.call("PUT", "/api/limits/route/api", zoe, json={"streams": 1})).status_code == 200
    await home.domains.limit_watch.load()
    assert (await home.call("GET", "/api/limits/route/api", PROGRAM)).json()["effective"]["streams"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"streams": 0},
        {"streams": -1},
        {"streams": 1.5},
        {"bytes_per_second": 1},
        {"requests": {"quota": 1}},
        {"requests": {"quota": 1, "window": 0}},
        {"requests": {"quota": 10**12, "window": 1}},
        {"requests": {"quota": 1, "window": 60, "when_away": "perhaps"}},
        {"unknown": 1},
        {"requests": "10/minute"},
        [],
    ],
)
async def test_hostile_bodies_are_422(one_home: Home, body: object) -> None:
    answer = await one_home.call("PUT", "/api/limits/route/x", PROGRAM, json=body)
    assert answer.status_code == 422
    assert answer.json()["code"] == "validation_failed"


async def test_hostile_subjects(home: Home) -> None:
    for subject, status in (("x" * 101, 422), ("%00", 422), ("..%2f..", 404), ("%F0%9F%90%99", 404)):
        answer = await home.call("PUT", f"/api/limits/route/{subject}", PROGRAM, json={"streams": 1})
        assert answer.status_code == status, subject
    assert (await home.call("GET", "/api/limits", PROGRAM, params={"cursor": "nonsense"})).status_code == 422


async def test_a_deleted_team_leaves_no_limits(home: Home) -> None:
    """A2, and what is left of a team."""
    await home.team(AWAY)
    assert (await home.call("PUT", f"/api/limits/teams/{AWAY}", PROGRAM, json={"streams": 1})).status_code == 200
    assert len(await home.domains.limits.every()) == 1
    admin = home.people["hp_admin-of-away"]
    assert (await home.call("DELETE", f"/api/teams/{AWAY}", admin)).status_code == 204
    assert await home.domains.limits.every() == []
    assert home.changes.announced[-1].topic is Topic.LIMITS
