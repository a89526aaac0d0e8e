"""Users, sessions and what happens once, on each database."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.records import AuditEntry
from api_server.auth.oidc import LogoutClaims, Person
from api_server.auth.signin.errors import LogoutTokenReplayedError, UserDisabledError
from api_server.auth.signin.interfaces import NewSession, SignedIn, UserRecord, Visit
from api_server.auth.signin.store import DatabaseSignInStore
from api_server.auth.signin.tables import installation, once, user_sessions, users
from api_server.db.database import Database
from api_server.teams.tables import members, teams
from common.ids import TeamId

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.0
VISIT = Visit(address="192.0.2.1", request_id="req_1", user_agent="Browser/1")


class FakeAudit:
    """Keeps what it is told, and takes its turn in the transaction."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    async def record(self, tx: AsyncConnection, entry: AuditEntry) -> None:
        assert tx.in_transaction()
        self.entries.append(entry)


class FakeFirstAdmin:
    async def make_first_admin(self, tx: AsyncConnection, team: TeamId, user: str, now: float) -> None:
        await tx.execute(insert(members).values(team_id=team, user_id=user, role="ADMIN", since=now))


def person(number: int = 1, *, sid: str | None = "sid-1", name: str = "Ada") -> Person:
    return Person(
        issuer="https://provider.test",
        subject=f"person-{number}",
        name=name,
        email=f"person{number}@example.org",
        email_verified=True,
        provider_session=sid,
    )


def session(name: str, *, replaces: str | None = None, expires_at: float = NOW + 86400) -> NewSession:
    return NewSession(secret_hash=name, replaces=replaces, idle_seconds=3600, expires_at=expires_at)


class Stage:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.audit = FakeAudit()
        self.store = DatabaseSignInStore(database, self.audit, FakeFirstAdmin())

    async def prepare(self) -> None:
        async def work(tx: AsyncConnection) -> None:
            await tx.execute(insert(teams).values(id="home", name="Home", description="", created_at=NOW))
            await tx.execute(insert(installation).values(id=1, team="home"))

        await self.database.write(work)

    async def sign_in(self, who: Person, what: NewSession, now: float = NOW) -> SignedIn:
        return await self.store.sign_in(who, what, VISIT, now)

    async def count(self, table: object) -> int:
        async def work(tx: AsyncConnection) -> int:
            return int((await tx.execute(select(func.count()).select_from(table))).scalar_one())  # type: ignore[arg-type]

        return await self.database.read(work)


@pytest.fixture
async def stage(database: Database) -> Stage:
    made = Stage(database)
    await made.prepare()
    return made


async def test_one_of_a_hundred_first_people_becomes_admin(stage: Stage) -> None:
    """All at once, each a person of their own."""
    results = await asyncio.gather(
        *(stage.sign_in(person(number, sid=f"sid-{number}"), session(f"hash-{number}")) for number in range(100))
    )
    assert [result.claimed for result in results].count(TeamId("home")) == 1
    assert await stage.count(members) == 1
    assert await stage.count(users) == 100
    assert await stage.count(user_sessions) == 100
    (winner,) = [result.user.id for result in results if result.claimed is not None]

    async def claimed_by(tx: AsyncConnection) -> str:
        return str((await tx.execute(select(installation.c.claimed_by))).scalar_one())

    assert await stage.database.read(claimed_by) == winner
    assert [entry.action for entry in stage.audit.entries].count("session.started") >= 100


async def test_one_person_who_comes_in_twice_at_once_is_one_user(stage: Stage) -> None:
    results = await asyncio.gather(*(stage.sign_in(person(), session(f"hash-{number}")) for number in range(20)))
    assert len({result.user.id for result in results}) == 1
    assert await stage.count(users) == 1
    assert await stage.count(user_sessions) == 20


async def test_a_state_is_spent_once_by_whoever_comes_first(stage: Stage) -> None:
    spent = await asyncio.gather(*(stage.store.spend("state", "one", NOW + 300) for _ in range(20)))
    assert spent.count(True) == 1
    assert await stage.store.spend("state", "other", NOW + 300)
    assert await stage.store.spend("other", "one", NOW + 300)


async def test_the_life_of_a_session(stage: Stage) -> None:
    signed_in = await stage.sign_in(person(), session("hash"))
    live = await stage.store.live_session("hash", NOW + 1)
    assert live is not None
    assert (live.id, live.user, live.last_seen_at) == (signed_in.session, signed_in.user, NOW)
    assert await stage.store.session_by_id(live.id, NOW + 1) == live
    assert await stage.store.session_by_id(live.id, NOW + 3600) is None
    assert await stage.store.session_by_id("uss_other", NOW + 1) is None
    assert await stage.store.live_session("hash", NOW + 3600) is None  # idle
    await stage.store.seen(live.id, NOW + 3000)
    assert await stage.store.live_session("hash", NOW + 3600) is not None
    await stage.store.seen(live.id, NOW + 100)  # of a slower process: time does not go back
    assert await stage.store.live_session("hash", NOW + 3700) is not None
    await stage.store.seen(live.id, NOW + 86_300)
    assert await stage.store.live_session("hash", NOW + 86_399) is not None
    assert await stage.store.live_session("hash", NOW + 86_400) is None
    assert await stage.store.live_session("other", NOW) is None


async def test_a_person_is_who_the_issuer_says_and_keeps_their_id(stage: Stage) -> None:
    first = await stage.sign_in(person(), session("one"))
    again = await stage.sign_in(person(name="Ada King"), session("two", replaces="one"))
    assert again.user == UserRecord(id=first.user.id, name="Ada King", email="person1@example.org")
    assert await stage.store.live_session("one", NOW) is None
    elsewhere = Person(
        issuer="https://other.test",
        subject="person-1",
        name="Eve",
        email="person1@example.org",
        email_verified=True,
        provider_session=None,
    )
    assert (await stage.sign_in(elsewhere, session("three"))).user.id != first.user.id
    upper = Person(
        issuer="https://provider.test",
        subject="PERSON-1",
        name="Eve",
        email=None,
        email_verified=False,
        provider_session=None,
    )
    assert (await stage.sign_in(upper, session("four"))).user.id != first.user.id


async def test_a_disabled_user_is_out_at_once_and_stays_out(stage: Stage) -> None:
    signed_in = await stage.sign_in(person(), session("one"))
    user, session_id = signed_in.user, signed_in.session
    assert await stage.store.session_by_id(session_id, NOW) is not None

    async def disable(tx: AsyncConnection) -> None:
        await tx.execute(update(users).where(users.c.id == user.id).values(disabled_at=NOW))

    await stage.database.write(disable)
    assert await stage.store.live_session("one", NOW) is None
    assert await stage.store.session_by_id(session_id, NOW) is None
    assert await stage.store.sessions_of(user.id, NOW) == []
    with pytest.raises(UserDisabledError):
        await stage.sign_in(person(), session("two"))
    assert await stage.count(user_sessions) == 1


async def test_sessions_are_listed_and_ended_by_their_owner(stage: Stage) -> None:
    ada = await stage.sign_in(person(1), session("a"))
    later = await stage.sign_in(person(1), session("b"), NOW + 10)
    eve = await stage.sign_in(person(2), session("c"))
    listed = await stage.store.sessions_of(ada.user.id, NOW + 20)
    assert [each.id for each in listed] == [later.session, ada.session]
    assert (listed[0].address, listed[0].user_agent) == ("192.0.2.1", "Browser/1")
    assert not await stage.store.end_session(eve.user, ada.session, "x", VISIT, NOW)
    assert await stage.store.end_session(ada.user, ada.session, "signed_out", VISIT, NOW + 20)
    assert not await stage.store.end_session(ada.user, ada.session, "signed_out", VISIT, NOW + 21)
    assert [each.id for each in await stage.store.sessions_of(ada.user.id, NOW + 20)] == [later.session]
    ended = [entry for entry in stage.audit.entries if entry.action == "session.ended"]
    assert [(entry.actor.id, entry.target_id, entry.after) for entry in ended] == [
        (ada.user.id, ada.session, {"reason": "signed_out"})
    ]

    async def end_all(tx: AsyncConnection) -> None:
        await stage.store.end_sessions_of(tx, ada.user.id, "disabled", NOW + 30)

    await stage.database.write(end_all)
    assert await stage.store.live_session("b", NOW + 30) is None
    assert await stage.store.live_session("c", NOW + 30) is not None


def logout(token_id: str, *, subject: str | None = None, sid: str | None = None) -> LogoutClaims:
    return LogoutClaims(
        issuer="https://provider.test",
        subject=subject,
        provider_session=sid,
        token_id=token_id,
        expires_at=NOW + 300,
    )


async def test_the_provider_ends_sessions_once(stage: Stage) -> None:
    for number, sid in enumerate(("sid-1", "sid-2", None, "sid-4")):
        await stage.sign_in(person(1, sid=sid), session(f"ada-{number}"))
    await stage.sign_in(person(2, sid="sid-1"), session("eve"))

    async def alive() -> list[str]:
        hashes = ("ada-0", "ada-1", "ada-2", "ada-3", "eve")
        return [each for each in hashes if await stage.store.live_session(each, NOW) is not None]

    results = await asyncio.gather(
        *(stage.store.log_out(logout("j1", subject="person-1", sid="sid-2"), VISIT, NOW) for _ in range(5)),
        return_exceptions=True,
    )
    assert [result for result in results if not isinstance(result, LogoutTokenReplayedError)] == [2]
    assert await alive() == ["ada-0", "ada-3", "eve"]  # the one without a name of its own has ended with it
    assert await stage.store.log_out(logout("j2", subject="person-9", sid="sid-1"), VISIT, NOW) == 0
    assert await stage.store.log_out(logout("j3", sid="sid-4"), VISIT, NOW) == 1
    assert await stage.store.log_out(logout("j4", subject="person-1"), VISIT, NOW) == 1
    assert await alive() == ["eve"]


async def test_what_nobody_can_use_is_dropped(stage: Stage) -> None:
    await stage.store.spend("state", "old", NOW)
    await stage.store.spend("state", "new", NOW + 100)
    await stage.sign_in(person(), session("old", expires_at=NOW - 31 * 86400))
    await stage.sign_in(person(), session("new"))
    await stage.store.forget(NOW + 1)
    assert (await stage.count(once), await stage.count(user_sessions)) == (1, 1)
    assert await stage.store.live_session("new", NOW + 1) is not None


async def test_a_refusal_is_written_down(stage: Stage) -> None:
    await stage.store.refused("callback_replayed", VISIT)
    (entry,) = stage.audit.entries
    assert (entry.action, entry.outcome, entry.after) == ("session.started", "refused", {"reason": "callback_replayed"})
    assert entry.address == "192.0.2.1"
