"""What a token may do: its scopes, met with what its issuer may do when it is used (T2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from api_server.auth.interfaces import INSTALLATION_ACTIONS, Action, Identity
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.teams.roles import Role, actions_of
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import AWAY, HOME
from tests.api_server.people import PROGRAM, Home, Person, running_domains
from tests.api_server.tokens.calls import make, program, try_token
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database, running_domains(database, signer) as running:
            yield running


async def identity(home: Home, made: dict[str, Any]) -> Identity | None:
    """Whom a token stands for now."""
    return await home.authenticate(program(made).token, address="127.0.0.1")


async def set_role(home: Home, who: Person, role: Role | None) -> None:
    path = f"/api/teams/home/members/{who.id}"
    if role is None:
        answer = await home.call("DELETE", path, PROGRAM)
    else:
        answer = await home.call("PUT", path, PROGRAM, json={"role": role})
    assert answer.is_success, answer.text


async def test_t2_a_token_without_scopes_may_do_nothing(home: Home) -> None:
    made = await make(home, await home.person("ann", home=Role.ADMIN))
    found = await identity(home, made)
    assert found is not None
    assert (found.kind, found.id, found.name) == ("token", made["id"], "ci")
    assert (found.teams, found.installation) == ({HOME: frozenset()}, frozenset())
    assert (await home.call("GET", "/api/devices", program(made))).status_code == 403


@pytest.mark.parametrize("role", Role)
async def test_t2_each_role_cell_is_met_with_the_scopes(home: Home, role: Role) -> None:
    """A token with every scope, of somebody who is no ADMIN any more."""
    await home.person("first", home=Role.ADMIN)
    ann = await home.person("ann", home=Role.ADMIN)
    everything = await make(home, ann, "*", *(each.replace(".", ":") for each in INSTALLATION_ACTIONS))
    narrow = await make(home, ann, "devices:*", "sessions:close")
    for made in (everything, narrow):
        found = await identity(home, made)
        assert found is not None
    await set_role(home, ann, role)
    found = await identity(home, everything)
    assert found is not None
    assert found.teams == {HOME: actions_of(role)}
    assert found.installation == (INSTALLATION_ACTIONS if role is Role.ADMIN else frozenset())
    found = await identity(home, narrow)
    assert found is not None
    scopes = {action for action in Action if action.startswith("devices.")}
    scopes |= {Action.SESSIONS_CLOSE, Action.SESSIONS_CLOSE_OWN}
    assert found.teams == {HOME: scopes & actions_of(role)}
    assert found.installation == frozenset()


async def test_t2_who_leaves_the_team_leaves_no_token_that_works(home: Home) -> None:
    bob = await home.person("bob", home=Role.DEVELOPER)
    made = await make(home, bob, "devices:read")
    assert await identity(home, made) is not None
    await set_role(home, bob, None)
    assert await identity(home, made) is None
    assert (await try_token(home, made)).status_code == 401
    await set_role(home, bob, Role.VIEWER)
    assert await identity(home, made) is not None


async def test_t2_what_the_administration_token_makes_does_not_depend_on_people(home: Home) -> None:
    made = await make(home, PROGRAM, "*", "metrics:read")
    assert made["issuer"] == f"administration:{PROGRAM.id}"
    found = await identity(home, made)
    assert found is not None
    assert found.teams == {HOME: frozenset(Action) - INSTALLATION_ACTIONS}
    assert found.installation == {Action.METRICS_READ}


async def test_a2_a_token_is_of_one_team_whatever_its_issuer_belongs_to(home: Home) -> None:
    await home.team(AWAY)
    ann = await home.person("ann", home=Role.ADMIN, away=Role.ADMIN)
    made = await make(home, ann, "*", team="away")
    found = await identity(home, made)
    assert found is not None
    assert set(found.teams) == {AWAY}
    assert (await home.call("GET", "/api/devices?team=home", program(made))).json()["code"] == "no_such_team"
    assert (await home.call("GET", "/api/api-tokens?team=home", program(made))).json()["code"] == "no_such_team"
    assert (await home.call("GET", "/api/metrics", program(made))).status_code == 404


async def test_a_token_makes_tokens_that_are_no_more_than_itself(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    parent = await make(home, ann, "api_tokens:create", "devices:read", "gateway:call:prices", expires_in=3600)
    child = await make(home, program(parent), "devices:read", "gateway:call:prices")
    assert (child["issuer"], child["created_by"]) == (f"user:{ann.id}", f"token:{parent['id']}")
    assert child["expires_at"] == parent["expires_at"]
    assert (await make(home, program(parent), expires_in=60))["expires_at"] < parent["expires_at"]
    for scope in ("devices:create", "gateway:call", "gateway:call:orders", "*"):
        answer = await home.call("POST", "/api/api-tokens", program(parent), json={"name": "more", "scopes": [scope]})
        assert answer.json()["code"] == "scope_not_granted"
    assert (await home.call("POST", "/api/api-tokens", program(child), json={"name": "x"})).status_code == 403


async def test_t3_a_token_that_is_revoked_takes_along_what_it_has_made(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    parent = await make(home, ann, "api_tokens:create")
    child = await make(home, program(parent), "api_tokens:create")
    grandchild = await make(home, program(child))
    other = await make(home, ann)
    assert (await try_token(home, grandchild)).status_code == 200
    assert (await home.call("DELETE", f"/api/api-tokens/{parent['id']}", ann)).status_code == 204
    statuses = [(await try_token(home, each)).status_code for each in (parent, child, grandchild, other)]
    assert statuses == [401, 401, 401, 200]
    told = {each.subject for each in home.changes.announced if each.event == "token.revoked"}
    assert told == {parent["id"], child["id"], grandchild["id"]}


async def test_a_token_may_rotate_and_revoke_itself_if_it_has_the_scope(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann, "api_tokens:change_own", expires_in=3600)
    plain = await make(home, ann)
    home.clock.wall_now += 1800
    answer = await home.call("POST", f"/api/api-tokens/{made['id']}/rotate", program(made), json={"overlap": 0})
    assert answer.status_code == 200
    assert answer.json()["expires_at"] == home.clock.wall() + 3600
    path = f"/api/api-tokens/{plain['id']}"
    new = program(answer.json())
    assert (await home.call("POST", f"{path}/rotate", new, json={})).json()["code"] == "forbidden"
    assert (await home.call("DELETE", path, new)).json()["code"] == "forbidden"
    assert (await home.call("POST", f"{path}/rotate", program(plain), json={})).json()["code"] == "forbidden"
    assert (await home.call("DELETE", f"/api/api-tokens/{made['id']}", new)).status_code == 204
    assert (await home.call("GET", "/api/teams", new)).status_code == 401


async def test_t2_nobody_gets_to_see_a_token_that_may_do_more_than_they(home: Home) -> None:
    """A MANAGER may change any token; rotating an ADMIN's would hand them what the ADMIN may do."""
    ann, mia = await home.person("ann", home=Role.ADMIN), await home.person("mia", home=Role.MANAGER)
    strong, weak = await make(home, ann, "teams:edit"), await make(home, ann, "devices:read")
    refused = await home.call("POST", f"/api/api-tokens/{strong['id']}/rotate", mia, json={})
    assert refused.json()["code"] == "scope_not_granted"
    assert (await try_token(home, strong)).status_code == 200
    assert (await home.call("POST", f"/api/api-tokens/{weak['id']}/rotate", mia, json={})).status_code == 200
    assert (await home.call("DELETE", f"/api/api-tokens/{strong['id']}", mia)).status_code == 204


async def test_t4_a_token_in_the_query_is_refused_though_it_holds(home: Home) -> None:
    made = await make(home, await home.person("ann", home=Role.DEVELOPER), "devices:read")
    answer = await home.http.get(f"/api/devices?token={made['token']}")
    assert (answer.status_code, answer.json()["code"]) == (400, "credential_in_query")
    assert made["token"] not in answer.text
