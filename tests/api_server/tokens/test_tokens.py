"""API tokens from their making to their end, over real HTTP on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from api_server.db.database import Database
from api_server.teams.roles import Role
from api_server.tokens.tables import api_tokens
from common.crypto.api_tokens import checksum_holds
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import AWAY
from tests.api_server.people import DAY, PROGRAM, TOKEN_KEYS, Home, running_domains
from tests.api_server.tokens.calls import make, program, try_token

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


async def test_a_token_is_made_shown_once_listed_and_used(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann, "devices:read", "devices:read", "sessions:read", description="for the build")
    assert checksum_holds(made["token"])
    assert made["token"].startswith(made["start"])
    assert made["scopes"] == ["devices:read", "sessions:read"]
    assert (made["issuer"], made["created_by"]) == (f"user:{ann.id}",) * 2
    assert (made["expires_at"], made["last_used_at"], made["revoked_at"], made["addresses"]) == (None, None, None, [])
    shown = (await home.call("GET", f"/api/api-tokens/{made['id']}", ann)).json()
    assert shown == {key: value for key, value in made.items() if key != "token"}
    assert (await home.call("GET", "/api/api-tokens", ann)).json() == {"items": [shown], "next": None}
    assert (await home.call("GET", "/api/devices", program(made))).json() == {"items": [], "next": None}
    assert (await home.call("POST", "/api/devices", program(made), json={"name": "x"})).json()["code"] == "forbidden"


async def test_t1_the_database_has_a_keyed_hash_and_the_first_characters(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann)
    (row,) = await home.database.read(lambda tx: tx.execute(select(api_tokens)))
    token = program(made).token
    assert row.token_hash == TOKEN_KEYS.stored(token)
    assert row.start == token.reveal()[:9]
    assert token.reveal()[9:] not in str(row)


async def test_pages(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    ids = sorted([(await make(home, ann))["id"] for _ in range(5)])
    first = (await home.call("GET", "/api/api-tokens?limit=3", ann)).json()
    rest = (await home.call("GET", f"/api/api-tokens?limit=3&cursor={first['next']}", ann)).json()
    assert [each["id"] for each in first["items"] + rest["items"]] == ids
    assert rest["next"] is None


async def test_name_and_description_can_be_changed_and_nothing_else(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann, "devices:read")
    path = f"/api/api-tokens/{made['id']}"
    changed = (await home.call("PATCH", path, ann, json={"name": "cd"})).json()
    assert (changed["name"], changed["description"]) == ("cd", "")
    assert (await home.call("PATCH", path, ann, json={"description": "x"})).json()["name"] == "cd"
    assert (await home.call("PATCH", path, ann, json={})).json()["name"] == "cd"
    for body in ({"scopes": ["*"]}, {"addresses": []}, {"expires_at": None}, {"name": ""}, {"team": "away"}):
        assert (await home.call("PATCH", path, ann, json=body)).status_code == 422
    assert (await try_token(home, made)).json()


async def test_a_revoked_token_is_refused_at_once_and_for_good(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann)
    assert (await try_token(home, made)).status_code == 200
    for _ in range(2):
        assert (await home.call("DELETE", f"/api/api-tokens/{made['id']}", ann)).status_code == 204
        answer = await try_token(home, made)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert (await home.call("GET", f"/api/api-tokens/{made['id']}", ann)).json()["revoked_at"] is not None
    ended = await home.call("POST", f"/api/api-tokens/{made['id']}/rotate", ann, json={})
    assert (ended.status_code, ended.json()["code"]) == (409, "api_token_ended")
    assert [(each.event, each.subject) for each in home.changes.announced if each.event] == [
        ("token.created", made["id"]),
        ("token.revoked", made["id"]),
    ]


async def test_a_token_expires(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann, expires_in=3600)
    assert made["expires_at"] == home.clock.wall() + 3600
    assert (await try_token(home, made)).status_code == 200
    home.clock.wall_now += 3599.9
    assert (await try_token(home, made)).status_code == 200
    home.clock.wall_now += 0.1
    assert (await try_token(home, made)).status_code == 401


@pytest.mark.parametrize("overlap", [0, 3600, 30 * DAY])
async def test_both_hold_during_the_overlap_of_a_rotation(home: Home, overlap: float) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    old = await make(home, ann, "devices:read")
    assert (await try_token(home, old)).status_code == 200
    path = f"/api/api-tokens/{old['id']}/rotate"
    new = (await home.call("POST", path, ann, json={"overlap": overlap})).json()
    assert new["id"] == old["id"]
    assert new["token"] != old["token"]
    assert new["token"].startswith(new["start"])
    assert (new["scopes"], new["expires_at"]) == (["devices:read"], None)
    assert new["previous_expires_at"] == (home.clock.wall() + overlap if overlap else None)
    assert (await try_token(home, new)).status_code == 200
    assert (await try_token(home, old)).status_code == (200 if overlap else 401)
    home.clock.wall_now += overlap
    assert (await try_token(home, old)).status_code == 401
    assert (await try_token(home, new)).status_code == 200


async def test_a_second_rotation_ends_the_first_token(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    first = await make(home, ann)
    path = f"/api/api-tokens/{first['id']}/rotate"
    second = (await home.call("POST", path, ann, json={})).json()
    third = (await home.call("POST", path, ann, json={})).json()
    assert [(await try_token(home, each)).status_code for each in (first, second, third)] == [401, 200, 200]
    assert (await home.call("DELETE", f"/api/api-tokens/{first['id']}", ann)).status_code == 204
    assert [(await try_token(home, each)).status_code for each in (second, third)] == [401, 401]


async def test_a_rotation_gives_the_same_life_again_and_the_old_one_no_more(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    old = await make(home, ann, expires_in=10 * DAY)
    home.clock.wall_now += 9 * DAY
    path = f"/api/api-tokens/{old['id']}/rotate"
    new = (await home.call("POST", path, ann, json={"overlap": 5 * DAY})).json()
    assert new["expires_at"] == home.clock.wall() + 10 * DAY
    assert new["previous_expires_at"] == old["expires_at"], "its own end comes first"
    other = (await home.call("POST", path, ann, json={"expires_in": 3600})).json()
    assert other["expires_at"] == home.clock.wall() + 3600


async def test_the_administrators_maximum(database: Database, signer: SessionTokenSigner) -> None:
    async with running_domains(database, signer, api_token_max_lifetime=7 * DAY) as home:
        ann = await home.person("ann", home=Role.DEVELOPER)
        made = await make(home, ann)
        assert made["expires_at"] == home.clock.wall() + 7 * DAY
        too_long = {"name": "ci", "expires_in": 7 * DAY + 1}
        assert (await home.call("POST", "/api/api-tokens", ann, json=too_long)).json()["code"] == "validation_failed"
        path = f"/api/api-tokens/{made['id']}/rotate"
        refused = await home.call("POST", path, ann, json={"expires_in": 8 * DAY})
        assert refused.json()["code"] == "validation_failed"
        assert (await try_token(home, made)).status_code == 200, "a refused rotation changes nothing"
        assert (await home.call("POST", path, ann, json={})).json()["expires_at"] == home.clock.wall() + 7 * DAY


async def test_what_is_done_is_written_down_without_the_token(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann, "devices:read", expires_in=3600)
    path = f"/api/api-tokens/{made['id']}"
    await home.call("PATCH", path, ann, json={"name": "cd"})
    new = (await home.call("POST", f"{path}/rotate", ann, json={})).json()
    await home.call("DELETE", path, ann)
    lines = [entry for entry in home.audit.lines if entry.target_kind == "api_token"]
    assert [(line.action, line.target_id, line.team) for line in lines] == [
        (action, made["id"], "home") for action in ("token.created", "token.edited", "token.rotated", "token.revoked")
    ]
    assert made["token"] not in str(lines)
    assert new["token"] not in str(lines)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "validation_failed"),
        ({"name": ""}, "validation_failed"),
        ({"name": "x" * 101}, "validation_failed"),
        ({"name": "a\0b"}, "validation_failed"),
        ({"name": "ci", "scopes": "devices:read"}, "validation_failed"),
        ({"name": "ci", "scopes": [""]}, "validation_failed"),
        ({"name": "ci", "scopes": ["x" * 129]}, "validation_failed"),
        ({"name": "ci", "scopes": ["devices:read"] * 101}, "validation_failed"),
        ({"name": "ci", "scopes": ["devices:fly"]}, "unknown_scope"),
        ({"name": "ci", "scopes": ["*"]}, "scope_not_granted"),
        ({"name": "ci", "scopes": ["members:manage"]}, "scope_not_granted"),
        ({"name": "ci", "scopes": ["metrics:read"]}, "scope_not_granted"),
        ({"name": "ci", "expires_in": 0}, "validation_failed"),
        ({"name": "ci", "expires_in": -5}, "validation_failed"),
        ({"name": "ci", "expires_in": 1e300}, "validation_failed"),
        ({"name": "ci", "addresses": ["10.0.0.1/8"]}, "validation_failed"),
        ({"name": "ci", "addresses": ["everywhere"]}, "validation_failed"),
        ({"name": "ci", "addresses": ["0.0.0.0/0"] * 51}, "validation_failed"),
        ({"name": "ci", "token": "hp_mine"}, "validation_failed"),
        ({"name": "ci", "issuer": "usr_1"}, "validation_failed"),
    ],
    ids=str,
)
async def test_what_is_no_token_is_not_made(home: Home, body: dict[str, Any], code: str) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    answer = await home.call("POST", "/api/api-tokens", ann, json=body)
    assert answer.json()["code"] == code
    assert (await home.call("GET", "/api/api-tokens", ann)).json()["items"] == []


@pytest.mark.parametrize("overlap", [-1, 30 * DAY + 1, "a day", None])
async def test_an_overlap_is_thirty_days_at_most(home: Home, overlap: object) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann)
    answer = await home.call("POST", f"/api/api-tokens/{made['id']}/rotate", ann, json={"overlap": overlap})
    assert answer.status_code == 422
    assert (await try_token(home, made)).status_code == 200


async def test_a_token_is_used_from_its_networks_alone(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    near = await make(home, ann, addresses=["127.0.0.0/8", "127.0.0.0/8"])
    far = await make(home, ann, addresses=["192.0.2.7"])
    assert (near["addresses"], far["addresses"]) == (["127.0.0.0/8"], ["192.0.2.7/32"])
    for _ in range(2):
        assert (await try_token(home, near)).status_code == 200
        refused = await try_token(home, far)
        assert (refused.status_code, refused.json()["code"]) == (403, "address_not_allowed")


async def test_t3_a_team_that_is_deleted_takes_its_tokens_along(home: Home) -> None:
    await home.team(AWAY)
    zoe = await home.person("zoe", away=Role.ADMIN)
    made = await make(home, zoe, "devices:read")
    (other,) = [each for each in home.people.values() if each.id != zoe.id]
    assert (await home.call("DELETE", f"/api/teams/away/members/{other.id}", zoe)).status_code == 204
    assert (await try_token(home, made)).status_code == 200
    assert (await home.call("DELETE", "/api/teams/away", zoe)).status_code == 204
    assert (await try_token(home, made)).status_code == 401
    (row,) = await home.database.read(lambda tx: tx.execute(select(api_tokens)))
    assert row.revoked_at is not None


async def test_t3_a_user_who_is_locked_out_takes_their_tokens_along_for_good(home: Home) -> None:
    ann, bob = await home.person("ann", home=Role.ADMIN), await home.person("bob", home=Role.DEVELOPER)
    made, hers = await make(home, bob), await make(home, ann)
    assert (await try_token(home, made)).status_code == 200
    path = f"/api/users/{bob.id}"
    assert (await home.call("PATCH", path, PROGRAM, json={"disabled": True})).status_code == 200
    assert (await try_token(home, made)).status_code == 401
    assert (await home.call("PATCH", path, PROGRAM, json={"disabled": False})).status_code == 200
    assert (await try_token(home, made)).status_code == 401
    assert (await try_token(home, hers)).status_code == 200
