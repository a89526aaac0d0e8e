"""Whoever remembers what a user may do is told when it changes, and other domains end what they keep."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.interfaces import Action, Identity
from api_server.auth.signin.store import DatabaseSignInStore
from api_server.changes.interfaces import Change, Topic
from api_server.db.database import Database
from api_server.http.routes import Caller
from api_server.teams.errors import TeamNotEmptyError
from api_server.teams.roles import Role
from api_server.teams.service import TeamService
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import TeamId
from tests.api_server.fakes import HOME
from tests.api_server.people import Home, running_domains

pytestmark = pytest.mark.anyio

ALL = frozenset(Action)
ROOT = Identity(kind="token", id="hp_root", name="root", teams={HOME: ALL}, installation=ALL)
CALLER = Caller(identity=ROOT, teams=frozenset({HOME}), address="192.0.2.1", request_id="req_1")


class Ending:
    """Implements `TeamEnder` and `UserEnder`; another domain, which has one thing of each."""

    def __init__(self, home: Home) -> None:
        self._changes = home.changes

    async def end_team(self, tx: AsyncConnection, team: TeamId, now: float) -> Sequence[Change]:
        return [await self._changes.record(tx, Change(topic=Topic.ROUTES, team=team, subject=f"of {team}"))]

    async def end_user(self, tx: AsyncConnection, user: str, now: float) -> Sequence[Change]:
        return [await self._changes.record(tx, Change(topic=Topic.TOKENS, team=None, subject=f"of {user}"))]


def service(home: Home) -> TeamService:
    ending = Ending(home)
    return TeamService(
        home.database,
        home.audit,
        DatabaseSignInStore(home.database, home.audit, home.memberships),
        home.changes,
        home.clock,
        team_enders=[ending],
        user_enders=[ending],
    )


async def test_each_change_of_rights_is_announced(database: Database, signer: SessionTokenSigner) -> None:
    async with running_domains(database, signer) as home:
        ann, bob = await home.person("ann", home=Role.ADMIN), await home.person("bob")
        teams = service(home)
        await teams.set_member(CALLER, HOME, bob.id, Role.DEVELOPER)
        await teams.set_member(CALLER, HOME, bob.id, Role.DEVELOPER)  # as it was: nothing changed
        await teams.set_member(CALLER, HOME, bob.id, Role.VIEWER)
        await teams.remove_member(CALLER, HOME, bob.id)
        assert [(each.topic, each.subject) for each in home.changes.announced] == [(Topic.PEOPLE, bob.id)] * 3
        assert [each.generation for each in home.changes.announced] == [1, 2, 3]
        assert ann.id not in {each.subject for each in home.changes.announced}


async def test_t3_who_is_locked_out_leaves_nothing_behind(database: Database, signer: SessionTokenSigner) -> None:
    async with running_domains(database, signer) as home:
        bob = await home.person("bob", home=Role.DEVELOPER)
        await service(home).set_disabled(CALLER, bob.id, True)
        told = [(each.topic, each.subject) for each in home.changes.announced]
        assert told == [(Topic.TOKENS, f"of {bob.id}"), (Topic.PEOPLE, bob.id)]
        assert await home.memberships.role_in(bob.id, HOME) is None
        home.changes.announced.clear()
        await service(home).set_disabled(CALLER, bob.id, False)
        assert [each.topic for each in home.changes.announced] == [Topic.PEOPLE]
        assert await home.memberships.role_in(bob.id, HOME) is Role.DEVELOPER


async def test_t3_a_team_that_is_deleted_takes_all_of_its_own_along(
    database: Database, signer: SessionTokenSigner
) -> None:
    async with running_domains(database, signer) as home:
        team = await home.team("workshop")
        (admin,) = home.people.values()
        home.changes.announced.clear()
        with pytest.raises(TeamNotEmptyError):
            await service(home).delete(CALLER, team)
        assert home.changes.announced == []
        assert await home.memberships.role_in(admin.id, team) is Role.ADMIN
        own = Identity(kind="user", id=admin.id, name="admin", teams={team: frozenset(Action)})
        await service(home).delete(Caller(identity=own, teams=frozenset({team}), address="", request_id="r"), team)
        assert [each.subject for each in home.changes.announced] == ["of workshop"]
        assert await home.memberships.role_in(admin.id, team) is None
