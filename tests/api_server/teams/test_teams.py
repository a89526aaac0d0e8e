"""Teams and members: the rules that a table of roles cannot say (A1), on each database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from api_server.db.database import Database
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.people import PROGRAM, Home, running_domains

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


async def test_a_team_from_its_beginning_to_its_end(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    made = await home.call("POST", "/api/teams", ann, json={"id": "workshop", "name": "The workshop"})
    assert made.status_code == 201
    assert made.json() == {
        "id": "workshop",
        "name": "The workshop",
        "description": "",
        "created_at": home.clock.wall(),
        "members": 1,
    }
    listed = (await home.call("GET", "/api/teams", ann)).json()
    assert [team["id"] for team in listed["items"]] == ["home", "workshop"]
    changed = await home.call("PATCH", "/api/teams/workshop", ann, json={"description": "lathes"})
    assert (changed.json()["name"], changed.json()["description"]) == ("The workshop", "lathes")
    assert (await home.call("DELETE", "/api/teams/workshop", ann)).status_code == 204
    assert (await home.call("GET", "/api/teams/workshop", ann)).json()["code"] == "no_such_team"
    again = await home.call("POST", "/api/teams", ann, json={"id": "workshop"})
    assert (again.status_code, again.json()["code"]) == (409, "team_name_taken")
    assert home.audit.actions == ["team.created", "team.edited", "team.deleted"]


async def test_of_several_who_take_the_same_id_at_once_one_gets_it(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    answers = await asyncio.gather(*(home.call("POST", "/api/teams", ann, json={"id": "workshop"}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"team_name_taken"}


async def test_a_program_names_the_admin_of_its_team(home: Home) -> None:
    refused = await home.call("POST", "/api/teams", PROGRAM, json={"id": "workshop"})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    unknown = await home.call("POST", "/api/teams", PROGRAM, json={"id": "workshop", "admin": "usr_0"})
    assert unknown.json()["code"] == "no_such_user"
    bob = await home.person("bob")
    assert (await home.call("POST", "/api/teams", PROGRAM, json={"id": "workshop", "admin": bob.id})).status_code == 201
    members = (await home.call("GET", "/api/teams/workshop/members", bob)).json()["items"]
    assert [(each["user"], each["role"]) for each in members] == [(bob.id, "ADMIN")]


async def test_a1_a_team_that_is_not_empty_stays_and_says_why(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    await home.call("POST", "/api/teams", ann, json={"id": "workshop"})
    for number in range(7):
        await home.person(f"member-{number}", workshop=Role.VIEWER)
    refused = await home.call("DELETE", "/api/teams/workshop", ann)
    assert (refused.status_code, refused.json()["code"]) == (409, "team_not_empty")
    assert refused.json()["detail"].count("@example.org") == 5
    assert "and more" in refused.json()["detail"]
    for member in (await home.call("GET", "/api/teams/workshop/members", ann)).json()["items"]:
        if member["user"] != ann.id:
            await home.call("DELETE", f"/api/teams/workshop/members/{member['user']}", ann)
    assert (await home.call("POST", "/api/devices", ann, json={"team": "workshop", "name": "lathe"})).status_code == 201
    assert "lathe" in (await home.call("DELETE", "/api/teams/workshop", ann)).json()["detail"]
    await home.call("DELETE", "/api/devices/lathe?team=workshop", ann)
    assert (await home.call("DELETE", "/api/teams/workshop", ann)).status_code == 204


async def test_the_first_team_stays(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    assert (await home.call("DELETE", "/api/teams/home", ann)).json()["code"] == "team_not_empty"


async def test_a1_the_last_admin_stays(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    path = f"/api/teams/home/members/{ann.id}"
    assert (await home.call("DELETE", path, ann)).json()["code"] == "last_admin"
    assert (await home.call("PUT", path, ann, json={"role": "VIEWER"})).json()["code"] == "last_admin"
    bob = await home.person("bob", home=Role.VIEWER)
    assert (await home.call("PUT", f"/api/teams/home/members/{bob.id}", ann, json={"role": "ADMIN"})).json()[
        "role"
    ] == ("ADMIN")
    assert (await home.call("DELETE", path, ann)).status_code == 204
    assert (await home.call("GET", "/api/teams/home", ann)).status_code == 404


async def test_a1_of_two_admins_who_remove_each_other_at_once_one_stays(home: Home) -> None:
    ann, bob = await home.person("ann", home=Role.ADMIN), await home.person("bob", home=Role.ADMIN)
    answers = await asyncio.gather(
        home.call("DELETE", f"/api/teams/home/members/{bob.id}", ann),
        home.call("DELETE", f"/api/teams/home/members/{ann.id}", bob),
    )
    assert sorted(answer.status_code == 204 for answer in answers) == [False, True]
    left = [each for each in (ann, bob) if await home.memberships.teams_of(each.id)]
    assert len(left) == 1


async def test_a1_a_manager_cannot_touch_an_admin_or_manager(home: Home) -> None:
    admin, manager, other = [
        await home.person(name, home=role)
        for name, role in (("ann", Role.ADMIN), ("max", Role.MANAGER), ("mia", Role.MANAGER))
    ]
    newcomer = await home.person("new")
    for target in (admin, other):
        path = f"/api/teams/home/members/{target.id}"
        for method, body in (("PUT", {"role": "VIEWER"}), ("DELETE", None)):
            answer = await home.call(method, path, manager, json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    path = f"/api/teams/home/members/{newcomer.id}"
    for role, status in (("ADMIN", 403), ("MANAGER", 403), ("DEVELOPER", 200), ("VIEWER", 200), ("MANAGER", 403)):
        assert (await home.call("PUT", path, manager, json={"role": role})).status_code == status
    assert (await home.call("DELETE", path, manager)).status_code == 204
    assert (await home.call("DELETE", path, manager)).json()["code"] == "no_such_member"


async def test_everybody_may_leave(home: Home) -> None:
    await home.person("ann", home=Role.ADMIN)
    for role in (Role.MANAGER, Role.DEVELOPER, Role.VIEWER):
        someone = await home.person(f"a-{role.lower()}", home=role)
        assert (await home.call("DELETE", f"/api/teams/home/members/{someone.id}", someone)).status_code == 204


async def test_an_admin_of_one_team_is_nobody_in_another(home: Home) -> None:
    away = await home.team("away")
    ann = await home.person("ann", home=Role.ADMIN)
    for method, path, body in (
        ("GET", f"/api/teams/{away}", None),
        ("PATCH", f"/api/teams/{away}", {"name": "mine"}),
        ("DELETE", f"/api/teams/{away}", None),
        ("GET", f"/api/teams/{away}/members", None),
        ("PUT", f"/api/teams/{away}/members/{ann.id}", {"role": "ADMIN"}),
    ):
        answer = await home.call(method, path, ann, json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_team"), path


async def test_users_are_listed_page_by_page_and_found_by_name_or_address(home: Home) -> None:
    ann = await home.person("ann", home=Role.MANAGER)
    for number in range(5):
        await home.person(f"50%-{number}", email=f"Person_{number}@example.net")
    seen, cursor = [], ""
    while True:
        page = (await home.call("GET", f"/api/users?limit=2{cursor}", ann)).json()
        seen += [user["id"] for user in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(seen) == len(set(seen)) == 6
    for search, number in (("50%-", 5), ("person_3@", 1), ("%", 5), ("_", 5), ("nobody", 0)):
        found = (await home.call("GET", "/api/users", ann, params={"search": search})).json()["items"]
        assert len(found) == number, search


async def test_disabling_a_user(home: Home) -> None:
    ann, bob = await home.person("ann", home=Role.ADMIN), await home.person("bob", home=Role.VIEWER)
    assert (await home.call("PATCH", f"/api/users/{ann.id}", ann, json={"disabled": True})).json()["code"] == (
        "own_account"
    )
    assert (await home.call("PATCH", f"/api/users/{ann.id}", PROGRAM, json={"disabled": True})).json()["code"] == (
        "last_admin"
    )
    assert (await home.call("PATCH", f"/api/users/{bob.id}", bob, json={"disabled": True})).status_code == 403
    disabled = await home.call("PATCH", f"/api/users/{bob.id}", ann, json={"disabled": True})
    assert disabled.json()["disabled_at"] == home.clock.wall()
    assert (await home.call("PATCH", f"/api/users/{bob.id}", ann, json={"disabled": False})).json()[
        "disabled_at"
    ] is None
    assert home.audit.actions == ["user.disabled", "user.enabled"]
    assert (await home.call("PATCH", "/api/users/usr_0", ann, json={"disabled": True})).json()["code"] == "no_such_user"


@pytest.mark.parametrize("name", ["", "a--b", "-a", "A", "ä", "a" * 41, "a b", "../x", "a\u0000", "dev/1"])
async def test_what_is_no_name_is_refused(home: Home, name: str) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    answer = await home.call("POST", "/api/teams", ann, json={"id": name})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
