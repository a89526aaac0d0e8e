"""Invitations: A1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api_server.db.database import Database
from api_server.teams.roles import Role
from common.crypto.api_tokens import INVITATION_TOKEN_PREFIX, new_token
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.people import DAY, PROGRAM, Home, Person, running_domains

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


async def invite(home: Home, who: Person, email: str, /, **teams: str) -> Any:
    body = {"email": email, "teams": [{"team": team, "role": role} for team, role in teams.items()]}
    answer = await home.call("POST", "/api/invitations", who, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def accept(home: Home, who: Person, invitation: Any, token: str | None = None) -> Any:
    path = f"/api/invitations/{invitation['id']}/accept"
    return await home.call("POST", path, who, json={"token": token or invitation["token"]})


async def test_an_invitation_makes_a_member_once(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    made = await invite(home, ann, "Bob@Example.org", home="DEVELOPER")
    assert made["token"].startswith("hpi_")
    assert made["expires_at"] == home.clock.wall() + 7 * DAY
    bob = await home.person("bob")
    accepted = await accept(home, bob, made)
    assert accepted.status_code == 200
    assert accepted.json()["accepted_by"] == bob.id
    assert await home.memberships.teams_of(bob.id) == {"home": Role.DEVELOPER}
    assert (await accept(home, bob, made)).status_code == 200  # a lost answer
    other = await home.person("other", email="bob@example.org")
    assert (await accept(home, other, made)).json()["code"] == "invitation_used"
    assert home.audit.actions == ["invitation.created", "invitation.accepted"]
    shown = await home.call("GET", f"/api/invitations/{made['id']}", ann)
    assert "token" not in shown.json()
    assert made["token"] not in (await home.call("GET", "/api/invitations", ann)).text


async def test_a1_the_token_is_kept_as_a_hash(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    made = await invite(home, ann, "bob@example.org", home="VIEWER")
    assert made["token"] not in str(home.audit.lines)
    async with home.database.administer() as connection:
        rows = (await connection.exec_driver_sql("SELECT * FROM invitations")).all()
    assert made["token"] not in str(rows)


async def test_a1_of_two_who_accept_at_once_one_succeeds(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    made = await invite(home, ann, "bob@example.org", home="VIEWER")
    people = [await home.person(f"bob-{number}", email="bob@example.org") for number in range(5)]
    answers = await asyncio.gather(*(accept(home, person, made) for person in people))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    members = (await home.call("GET", "/api/teams/home/members", ann)).json()["items"]
    assert len(members) == 2


async def test_a1_it_is_bound_to_the_address_that_the_provider_vouches_for(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    made = await invite(home, ann, "bob@example.org", home="VIEWER")
    for name, email, verified in (("eve", "eve@example.org", True), ("fake-bob", "bob@example.org", False)):
        person = await home.person(name, email=email, verified=verified)
        refused = await accept(home, person, made)
        assert (refused.status_code, refused.json()["code"]) == (403, "invitation_for_another_address")
        assert await home.memberships.teams_of(person.id) == {}
    assert (await accept(home, PROGRAM, made)).json()["code"] == "forbidden"


async def test_a1_it_expires_and_lives_seven_days_at_most(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    body = {"email": "bob@example.org", "teams": [{"team": "home", "role": "VIEWER"}], "expires_in": 7 * DAY + 1}
    assert (await home.call("POST", "/api/invitations", ann, json=body)).status_code == 422
    made = await invite(home, ann, "bob@example.org", home="VIEWER")
    bob = await home.person("bob")
    home.clock.advance(7 * DAY)
    assert (await accept(home, bob, made)).json()["code"] == "invitation_expired"


async def test_a1_the_inviter_must_be_admin_of_each_team(home: Home) -> None:
    away = await home.team("away")
    ann = await home.person("ann", home=Role.ADMIN)
    body = {"email": "bob@example.org", "teams": [{"team": "home", "role": "VIEWER"}, {"team": away, "role": "ADMIN"}]}
    refused = await home.call("POST", "/api/invitations", ann, json=body)
    assert (refused.status_code, refused.json()["code"]) == (404, "no_such_team")
    mixed = await home.person("mixed", home=Role.ADMIN, away=Role.MANAGER)
    refused = await home.call("POST", "/api/invitations", mixed, json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    both = await home.person("both", home=Role.ADMIN, away=Role.ADMIN)
    assert (await home.call("POST", "/api/invitations", both, json=body)).status_code == 201


async def test_a1_it_is_void_once_the_inviter_is_no_admin_any_more(home: Home) -> None:
    ann, zoe = await home.person("ann", home=Role.ADMIN), await home.person("zoe", home=Role.ADMIN)
    made = await invite(home, zoe, "bob@example.org", home="ADMIN")
    await home.call("PUT", f"/api/teams/home/members/{zoe.id}", ann, json={"role": "DEVELOPER"})
    bob = await home.person("bob")
    assert (await accept(home, bob, made)).json()["code"] == "invitation_expired"


async def test_it_can_be_withdrawn(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    made = await invite(home, ann, "bob@example.org", home="VIEWER")
    assert (await home.call("DELETE", f"/api/invitations/{made['id']}", ann)).status_code == 204
    assert (await home.call("DELETE", f"/api/invitations/{made['id']}", ann)).status_code == 204
    bob = await home.person("bob")
    assert (await accept(home, bob, made)).json()["code"] == "invitation_expired"
    second = await invite(home, ann, "bob@example.org", home="VIEWER")
    await accept(home, bob, second)
    assert (await home.call("DELETE", f"/api/invitations/{second['id']}", ann)).json()["code"] == "invitation_used"


async def test_the_higher_role_stays(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    bob = await home.person("bob", home=Role.MANAGER)
    await accept(home, bob, await invite(home, ann, "bob@example.org", home="VIEWER"))
    assert await home.memberships.teams_of(bob.id) == {"home": Role.MANAGER}
    await accept(home, bob, await invite(home, ann, "bob@example.org", home="ADMIN"))
    assert await home.memberships.teams_of(bob.id) == {"home": Role.ADMIN}


async def test_a2_an_invitation_of_another_team_does_not_exist(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    made = await invite(home, ann, "bob@example.org", home="VIEWER")
    await home.team("away")
    eve = await home.person("eve", away=Role.ADMIN)
    for method in ("GET", "DELETE"):
        answer = await home.call(method, f"/api/invitations/{made['id']}", eve)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_invitation")


@pytest.mark.parametrize(
    "token",
    ["", "x", "hpi_", "hpi_" + "0" * 49, "hp_" + "0" * 49, new_token(INVITATION_TOKEN_PREFIX).reveal()],
    ids=["empty", "text", "prefix", "no checksum", "of another kind", "another"],
)
async def test_a_token_that_is_another_is_not_told_from_none(home: Home, token: str) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    made = await invite(home, ann, "bob@example.org", home="VIEWER")
    bob = await home.person("bob")
    for invitation in (made["id"], "inv_" + "0" * 32, "x"):
        answer = await home.call("POST", f"/api/invitations/{invitation}/accept", bob, json={"token": token})
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_invitation")


@pytest.mark.parametrize("email", ["", "x", "@", "a@", "@b", "a b@c.d", "a@b@c", "a\n@b.c", "x" * 250 + "@b.cd"])
async def test_what_is_no_address_is_refused(home: Home, email: str) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    body = {"email": email, "teams": [{"team": "home", "role": "VIEWER"}]}
    assert (await home.call("POST", "/api/invitations", ann, json=body)).json()["code"] == "validation_failed"
