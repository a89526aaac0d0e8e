"""Warnings before a token expires: at 30, 7 and 1 days, each once, whatever the number of processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from api_server.db.database import Database
from api_server.teams.roles import Role
from api_server.tokens.expiry import ExpiryWarnings
from api_server.tokens.warnings import days_of, passed
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.people import DAY, Home, Person, running_domains
from tests.api_server.tokens.calls import make

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


async def look(home: Home) -> None:
    """Five processes look at the same time."""
    processes = [ExpiryWarnings(home.database, home.changes, home.clock) for _ in range(5)]
    await asyncio.gather(*(each.look() for each in processes))


def told(home: Home) -> list[tuple[str, int]]:
    warnings = [each for each in home.changes.announced if each.event == "token.expiring"]
    return [(each.subject, each.data["days"]) for each in warnings]


async def soon(home: Home, who: Person, token: str) -> int | None:
    days: int | None = (await home.call("GET", f"/api/api-tokens/{token}", who)).json()["expires_soon"]
    return days


async def test_each_warning_is_given_once(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann, expires_in=31 * DAY)
    await make(home, ann)  # it does not expire
    expected: list[tuple[str, int]] = []
    for left, days in ((31, None), (30, 30), (29, 30), (7.1, 30), (7, 7), (1.5, 7), (1, 1), (0.5, 1)):
        home.clock.wall_now = made["expires_at"] - left * DAY
        await look(home)
        if days is not None and (made["id"], days) not in expected:
            expected.append((made["id"], days))
        assert told(home) == expected
        assert await soon(home, ann, made["id"]) == days
    home.clock.wall_now = made["expires_at"]
    await look(home)
    assert told(home) == expected
    assert [each.data["name"] for each in home.changes.announced if each.event == "token.expiring"] == ["ci"] * 3


async def test_what_passed_while_nobody_looked_is_made_up_for_by_the_latest(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann, expires_in=31 * DAY)
    home.clock.wall_now += 30.5 * DAY
    await look(home)
    assert told(home) == [(made["id"], 1)]


async def test_a_short_life_is_not_announced_at_its_beginning(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann, expires_in=5 * DAY)
    await look(home)
    assert told(home) == []
    home.clock.wall_now += 4 * DAY
    await look(home)
    assert told(home) == [(made["id"], 1)]


async def test_who_rotates_in_time_is_left_in_peace_and_warned_anew_later(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann, expires_in=40 * DAY)
    home.clock.wall_now += 11 * DAY
    await look(home)
    assert told(home) == [(made["id"], 30)]
    assert (await home.call("POST", f"/api/api-tokens/{made['id']}/rotate", ann, json={})).status_code == 200
    assert await soon(home, ann, made["id"]) is None
    await look(home)
    assert len(told(home)) == 1
    home.clock.wall_now += 11 * DAY
    await look(home)
    assert told(home) == [(made["id"], 30)] * 2


async def test_a_revoked_token_is_not_warned_of(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann, expires_in=31 * DAY)
    assert (await home.call("DELETE", f"/api/api-tokens/{made['id']}", ann)).status_code == 204
    home.clock.wall_now += 25 * DAY
    await look(home)
    assert told(home) == []
    assert await soon(home, ann, made["id"]) is None


@pytest.mark.parametrize(
    ("left", "over"), [(31, 0), (30, 1), (8, 1), (7, 2), (1.1, 2), (1, 3), (0, 3), (-5, 3)], ids=str
)
def test_how_many_are_over(left: float, over: int) -> None:
    assert passed(1000 * DAY, (1000 - left) * DAY) == over
    assert passed(None, 0.0) == 0
    assert days_of(over) == (None, 30, 7, 1)[over]
