"""Which caches are told what, and when they may be trusted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from api_server.changes.feed import ChangeFeed
from api_server.changes.interfaces import Change, Topic
from api_server.changes.notices import change_of, notice_of
from api_server.db.database import Database
from api_server.relay.events import Notice
from common.ids import TeamId
from tests.api_server.changes.listening import ALL, Listening
from tests.api_server.changes.recorded import RecordedChanges
from tests.api_server.fakes import HOME, FakeClock
from tests.databases.servers import make_database_file

pytestmark = pytest.mark.anyio


class Stage:
    """A feed of one process, and the log of another one on the same database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = FakeClock()
        self.feed = ChangeFeed(database, self.clock)
        self.tokens = Listening()
        self.routes = Listening(Topic.ROUTES)
        self.feed.add(self.tokens)
        self.feed.add(self.routes)
        self.elsewhere = RecordedChanges(ChangeFeed(database, self.clock))

    async def change(self, subject: str, topic: Topic = Topic.TOKENS) -> Notice:
        """Something that the other process changes; gives the notice, which nobody has heard yet."""
        change = Change(topic=topic, team=HOME, subject=subject)
        recorded = await self.database.write(lambda tx: self.elsewhere.record(tx, change))
        item = notice_of(recorded)
        return Notice(id="r-1", time=0, type=item.type, team=item.team, subject=item.subject, data=item.data)


@pytest.fixture
async def stage(tmp_path: Path, anyio_backend: str) -> Stage:
    make_database_file(tmp_path / "homeport.db")
    async with Database.connect(f"sqlite:///{tmp_path}/homeport.db") as database:
        made = Stage(database)
        await made.feed.poll()
        made.tokens.heard.clear()
        made.routes.heard.clear()
        yield made


async def test_a_notice_drops_one_thing_of_its_topic_once(stage: Stage) -> None:
    notice = await stage.change("tok_1")
    stage.feed.notice_heard(notice)
    stage.feed.notice_heard(notice)
    assert stage.tokens.heard == ["tok_1"]
    await stage.feed.poll()
    assert (stage.tokens.heard, stage.routes.heard) == (["tok_1"], [])


async def test_a_notice_that_was_lost_is_found_by_the_poll(stage: Stage) -> None:
    await stage.change("tok_1")
    await stage.feed.poll()
    assert (stage.tokens.heard, stage.routes.heard) == ([ALL], [])
    await stage.feed.poll()
    assert stage.tokens.heard == [ALL]


async def test_a_notice_after_the_poll_that_found_it_says_nothing_new(stage: Stage) -> None:
    notice = await stage.change("tok_1")
    await stage.feed.poll()
    stage.feed.notice_heard(notice)
    assert stage.tokens.heard == [ALL]


async def test_an_empty_subject_means_all(stage: Stage) -> None:
    stage.feed.notice_heard(await stage.change(""))
    assert stage.tokens.heard == [ALL]


@pytest.mark.parametrize("what", ["a gap", "lost events"])
async def test_something_missing_is_looked_for_at_once(stage: Stage, what: str) -> None:
    """The next poll by the clock would be in an hour."""
    feed = ChangeFeed(stage.database, stage.clock, interval=3600, lonely_interval=3600)
    tokens = Listening()
    feed.add(tokens)
    polling = asyncio.get_running_loop().create_task(feed.run())
    try:
        await tokens.until(lambda heard: heard == [ALL])
        await stage.change("tok_1")
        later = await stage.change("tok_2")
        if what == "a gap":
            feed.notice_heard(later)
            await tokens.until(lambda heard: heard == [ALL, "tok_2", ALL])
        else:
            feed.bus_lost()
            await tokens.until(lambda heard: heard == [ALL, ALL])
    finally:
        polling.cancel()


async def test_t3_what_was_not_heard_of_for_ten_seconds_is_not_trusted(stage: Stage) -> None:
    assert stage.feed.fresh()
    stage.clock.advance(10)
    assert stage.feed.fresh()
    stage.clock.advance(0.1)
    assert not stage.feed.fresh()
    await stage.feed.poll()
    assert stage.feed.fresh()


async def test_t3_the_bus_keeps_caches_fresh_while_the_database_is_away(stage: Stage) -> None:
    await stage.database.close()
    for _ in range(5):
        stage.clock.advance(5)
        stage.feed.bus_heard()
        await stage.feed.poll()
        assert stage.feed.fresh()


async def test_t3_a_bus_that_broke_off_counts_again_only_after_a_look_at_the_database(stage: Stage) -> None:
    stage.clock.advance(11)
    stage.feed.bus_lost()
    stage.feed.bus_heard()
    assert not stage.feed.fresh()
    await stage.feed.poll()
    stage.clock.advance(11)
    assert not stage.feed.fresh()
    stage.feed.bus_heard()
    assert stage.feed.fresh()


async def test_t3_a_loss_during_the_look_is_not_covered_by_it(stage: Stage) -> None:
    class Losing(ChangeFeed):
        async def poll(self) -> None:
            polling = asyncio.get_running_loop().create_task(super().poll())
            await asyncio.sleep(0)
            self.bus_lost()
            await polling

    feed = Losing(stage.database, stage.clock)
    await feed.poll()
    stage.clock.advance(11)
    feed.bus_heard()
    assert not feed.fresh()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("session.online", {}),
        ("changed.something_newer", {}),
        ("changed.tokens", {"generation": "seven"}),
        ("changed.tokens", {"data": 7}),
    ],
)
async def test_a_notice_of_something_else_or_of_a_newer_version_is_none(
    stage: Stage, kind: str, data: dict[str, object]
) -> None:
    notice = Notice(id="r-1", time=0, type=kind, team=HOME, subject="x", data=data)
    assert change_of(notice) is None
    stage.feed.notice_heard(notice)
    assert stage.tokens.heard == []


def test_a_change_crosses_the_bus_whole() -> None:
    change = Change(
        topic=Topic.TOKENS,
        team=TeamId("home"),
        subject="tok_1",
        event="token.revoked",
        data={"name": "ci", "by": "usr_1"},
        generation=12,
    )
    item = notice_of(change)
    notice = Notice(id="r-1", time=0, type=item.type, team=item.team, subject=item.subject, data=item.data)
    assert change_of(notice) == change


def test_data_that_the_relay_would_refuse_stays_at_home() -> None:
    """Better an event without its data than a notice that nobody hears."""
    item = notice_of(Change(topic=Topic.TOKENS, team=HOME, subject="x", event="a", data={"text": "é" * 4000}))
    assert item.data == {"event": "a"}
