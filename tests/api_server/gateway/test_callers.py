"""What a token has open through the gateway ends with it, and nothing else does (T3)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest

from api_server.auth.interfaces import Action, Identity
from api_server.changes.interfaces import Change, Topic
from api_server.db.errors import DatabaseUnavailableError
from api_server.gateway.callers import CallerWatch
from tests.api_server.fakes import HOME, FakeClock

pytestmark = pytest.mark.anyio

CALL, READ = frozenset({Action.GATEWAY_CALL}), frozenset({Action.DEVICES_READ})


def identity(name: str, actions: frozenset[Action] = CALL) -> Identity:
    return Identity(kind="token", id=name, name=name, teams={HOME: actions})


class FakeCall:
    def __init__(self, caller: Identity | None, *, busy: bool = True) -> None:
        self.caller = caller
        self.busy = busy
        self.was_cut = False

    def cut(self) -> None:
        self.was_cut = True
        self.busy = False


class Stage:
    """Calls of five callers, of whom each stands for as long as a test says."""

    def __init__(self) -> None:
        self.one, self.two = identity("tok_1"), identity("tok_2")
        self.admin = identity("hp_admin")
        self.calls = {
            "one": FakeCall(self.one),
            "one again": FakeCall(self.one),
            "two": FakeCall(self.two),
            "idle": FakeCall(self.one, busy=False),
            "admin": FakeCall(self.admin),
            "nobody yet": FakeCall(None),
        }
        self.standing = {"tok_1": self.one, "tok_2": self.two}
        self.asked: list[set[str]] = []
        self.away = False
        self.watch = CallerWatch(self, self, FakeClock(), interval=3600)
        self.news = asyncio.Event()

    def snapshot(self) -> list[FakeCall]:
        return list(self.calls.values())

    async def identities(self, ids: Collection[str], now: float) -> Mapping[str, Identity]:
        self.asked.append(set(ids))
        self.news.set()
        if self.away:
            raise DatabaseUnavailableError("the database cannot be reached")
        return {name: each for name, each in self.standing.items() if name in ids}

    def cut(self) -> set[str]:
        return {name for name, call in self.calls.items() if call.was_cut}


async def test_t3_the_calls_of_a_revoked_token_are_cut_at_once() -> None:
    stage = Stage()
    tokens, _ = stage.watch.listeners()
    tokens.changed(Change(topic=Topic.TOKENS, team=HOME, subject="tok_1", event="token.revoked"))
    assert stage.cut() == {"one", "one again"}
    assert stage.asked == []


async def test_what_is_made_or_rotated_cuts_nothing() -> None:
    stage = Stage()
    tokens, _ = stage.watch.listeners()
    for event in ("token.created", "token.rotated", "token.expiring"):
        tokens.changed(Change(topic=Topic.TOKENS, team=HOME, subject="tok_1", event=event))
    assert stage.cut() == set()


@pytest.mark.parametrize("now", [None, READ], ids=["gone", "may not call"])
async def test_t3_a_look_cuts_those_that_may_not_call_any_more(now: frozenset[Action] | None) -> None:
    stage = Stage()
    if now is None:
        del stage.standing["tok_2"]
    else:
        stage.standing["tok_2"] = identity("tok_2", now)
    await stage.watch.look()
    assert stage.cut() == {"two"}
    assert stage.asked == [{"tok_1", "tok_2"}]


async def test_a_look_asks_nothing_when_no_token_calls() -> None:
    stage = Stage()
    stage.calls = {"admin": FakeCall(stage.admin), "idle": FakeCall(stage.one, busy=False)}
    await stage.watch.look()
    assert stage.asked == []


@pytest.mark.parametrize("what", ["rights", "anything about people", "anything about tokens"])
async def test_t3_a_change_of_rights_is_looked_at_soon(what: str) -> None:
    stage = Stage()
    del stage.standing["tok_1"]
    tokens, people = stage.watch.listeners()
    running = asyncio.get_running_loop().create_task(stage.watch.run())
    try:
        match what:
            case "rights":
                people.changed(Change(topic=Topic.PEOPLE, team=HOME, subject="usr_1"))
            case "anything about people":
                people.all_changed()
            case _:
                tokens.all_changed()
        async with asyncio.timeout(30):
            await stage.news.wait()
            while stage.cut() != {"one", "one again"}:
                await asyncio.sleep(0)
    finally:
        running.cancel()


async def test_while_the_database_is_away_what_is_open_stays_and_is_looked_at_after() -> None:
    stage = Stage()
    stage.away = True
    with pytest.raises(DatabaseUnavailableError):
        await stage.watch.look()
    assert stage.cut() == set()
    stage.away = False
    del stage.standing["tok_1"]
    await stage.watch.look()
    assert stage.cut() == {"one", "one again"}
