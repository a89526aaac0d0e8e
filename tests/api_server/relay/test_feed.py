"""The relay's events: cut out of a stream of text, followed for ever, and what they are used for."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator
from itertools import repeat

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.relay import (
    DialerUpdates,
    EventFeed,
    Forwarder,
    Location,
    ProxyClient,
    ProxyClientStore,
    ServiceDialer,
    SessionDirectory,
    SessionEvent,
    StreamPool,
)
from api_server.relay.events import EventCutter, EventPosition
from common.backoff import Backoff
from common.ids import ServiceName
from common.sessions.errors import RelayUnavailableError
from common.sessions.interfaces import SessionState
from tests.api_server.fakes import FakeClock, summary
from tests.api_server.relay.fake_relay import HOME, FakeRelay, ServiceSide


def written(number: int, kind: str = "session.online") -> str:
    """An event as the relay writes it."""
    event = {"id": f"r-{number}", "type": kind, "time": 5.0, "team": "home", "session": summary(number)}
    return f"id: r-{number}\nevent: {kind}\ndata: {msgspec.json.encode(event).decode()}\n\n"


class TestCutting:
    def test_events(self) -> None:
        position = EventPosition()
        events = EventCutter(position).feed(written(1) + written(2, "session.offline"))
        assert [(event.id, event.type) for event in events if event] == [
            ("r-1", "session.online"),
            ("r-2", "session.offline"),
        ]
        assert events[0] is not None
        assert events[0].session == summary(1)
        assert position.last_id == "r-2"

    def test_comments_are_no_events(self) -> None:
        assert EventCutter(EventPosition()).feed(":\n\n: keep alive\n\n") == []

    def test_an_id_alone_moves_the_position(self) -> None:
        position = EventPosition()
        assert EventCutter(position).feed("id: r-7\n\n") == []
        assert position.last_id == "r-7"

    def test_the_position_moves_with_a_whole_event_only(self) -> None:
        position = EventPosition()
        EventCutter(position).feed(written(1) + written(2)[:-1])
        assert position.last_id == "r-1"

    def test_a_reset_says_that_events_were_lost(self) -> None:
        position = EventPosition()
        assert EventCutter(position).feed('id: r-9\nevent: reset\ndata: {"type":"reset"}\n\n') == [None]
        assert position.last_id == "r-9"

    def test_kinds_and_fields_of_a_newer_relay(self) -> None:
        text = written(1, "session.renamed").replace('"time"', '"new":{"x":1},"time"').replace("id:", "retry: 5\nid:")
        (event,) = EventCutter(EventPosition()).feed(text)
        assert event is not None
        assert event.type == "session.renamed"

    def test_other_line_ends_and_lines_of_data(self) -> None:
        data = msgspec.json.encode({"id": "r-1", "type": "t", "time": 1, "team": "home", "session": summary()}).decode()
        text = "data:" + data.replace('"type"', '\n"type"').replace("\n", "\ndata: ") + "\n\n"
        assert len(EventCutter(EventPosition()).feed(text.replace("\n", "\r\n"))) == 1

    @pytest.mark.parametrize("text", ["data: nonsense\n\n", 'data: {"id": 5}\n\n', "data: []\n\n"])
    def test_one_that_cannot_be_read(self, text: str) -> None:
        with pytest.raises(RelayUnavailableError):
            EventCutter(EventPosition()).feed(text)

    @pytest.mark.parametrize("line", ["data: " + "x" * 1000 + "\n", "x" * 1000])
    def test_one_without_an_end(self, line: str) -> None:
        cutter = EventCutter(EventPosition())
        with pytest.raises(RelayUnavailableError, match="no end"):
            deque(map(cutter.feed, repeat(line, 1000)))

    @given(cuts=st.lists(st.integers(0, 3000), max_size=20))
    def test_in_pieces(self, cuts: list[int]) -> None:
        text = ":\n\n" + written(1) + "event: reset\ndata: {}\n\n" + written(2)
        places = sorted({0, len(text), *(cut % len(text) for cut in cuts)})
        cutter = EventCutter(EventPosition())
        events = [event for i in range(len(places) - 1) for event in cutter.feed(text[places[i] : places[i + 1]])]
        assert events == EventCutter(EventPosition()).feed(text)


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._changed = asyncio.Event()

    def session_changed(self, event: SessionEvent) -> None:
        self.heard.append(event.id)
        self._changed.set()

    def events_lost(self) -> None:
        self.heard.append("lost")
        self._changed.set()

    async def until(self, *expected: str) -> None:
        """Wait until exactly these were heard."""
        async with asyncio.timeout(20):
            while len(self.heard) < len(expected):
                self._changed.clear()
                await self._changed.wait()
        assert self.heard == list(expected)


class Following:
    """A feed that follows a scripted relay, and waits as long as a test lets it."""

    def __init__(self, relay: FakeRelay, client: ProxyClient) -> None:
        self.relay = relay
        self.listener = Heard()
        self.slept: list[float] = []
        self.wake = asyncio.Event()
        self.wake.set()
        self.feed = EventFeed(
            client,
            clock=FakeClock(),
            backoff=Backoff(base=1, maximum=60, rng=random.Random(1)),
            sleep=self.sleep,
        )
        self.feed.add(self.listener)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.wake.wait()
        await asyncio.sleep(0)


@pytest.mark.anyio
class TestFollowing:
    @pytest.fixture
    async def following(self, anyio_backend: object) -> AsyncIterator[Following]:
        async with FakeRelay() as relay, ProxyClient(relay.url, key=relay.key) as client:
            following = Following(relay, client)
            running = asyncio.ensure_future(following.feed.run())
            yield following
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def test_events_are_told_as_they_come(self, following: Following) -> None:
        await following.listener.until("lost")
        for number in (1, 2):
            following.relay.tell("session.online", summary(number), event_id=f"r-{number}")
            await following.listener.until("lost", *(f"r-{i}" for i in range(1, number + 1)))

    async def test_after_a_break_it_goes_on_where_it_was(self, following: Following) -> None:
        following.relay.tell("session.online", summary(1), event_id="r-1")
        await following.listener.until("lost", "r-1")
        following.relay.break_events()
        following.relay.tell("session.online", summary(2), event_id="r-2")
        await following.listener.until("lost", "r-1", "r-2")
        assert len(following.slept) == 1

    async def test_what_the_relay_cannot_tell_any_more_is_lost(self, following: Following) -> None:
        following.relay.tell("session.online", summary(1), event_id="r-1")
        await following.listener.until("lost", "r-1")
        following.relay.tell_raw(b"id: s-0\nevent: reset\ndata: {}\n\n")
        await following.listener.until("lost", "r-1", "lost")

    async def test_without_a_position_a_break_may_have_lost_anything(self, following: Following) -> None:
        await following.relay.wait_requests(1)
        following.relay.break_events()
        await following.listener.until("lost", "lost")

    async def test_a_relay_that_is_away_is_tried_again_ever_more_rarely(self, following: Following) -> None:
        await following.listener.until("lost")
        following.relay.answers["/internal/events"] = b"HTTP/1.1 503 .\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
        following.relay.break_events()
        while len(following.slept) < 10:
            await asyncio.sleep(0)
        assert max(following.slept) > 8

    async def test_one_that_does_not_want_to_hear_any_more(self, following: Following) -> None:
        other = Heard()
        leave = following.feed.add(other)
        following.relay.tell("session.online", summary(1), event_id="r-1")
        await following.listener.until("lost", "r-1")
        leave()
        following.relay.tell("session.online", summary(2), event_id="r-2")
        await following.listener.until("lost", "r-1", "r-2")
        assert other.heard[-1] == "r-1"


@pytest.mark.anyio
class TestUpdates:
    @pytest.fixture
    async def dialer(self, anyio_backend: object) -> AsyncIterator[tuple[ServiceDialer, FakeRelay]]:
        async with FakeRelay() as relay, ProxyClient(relay.url, key=relay.key) as client:
            forwarder = Forwarder(relay.url, key=relay.key)
            store = ProxyClientStore(client, forwarder)
            pool = StreamPool()
            yield ServiceDialer(SessionDirectory(store.locate, clock=FakeClock()), forwarder, pool), relay
            pool.close()

    async def test_events_keep_directory_and_pool_right(self, dialer: tuple[ServiceDialer, FakeRelay]) -> None:
        async def quiet(side: ServiceSide) -> None:
            await side.was_reset()

        one, relay = dialer
        updates = DialerUpdates(one, FakeClock())

        def tell(kind: str, state: SessionState = SessionState.HEALTHY) -> None:
            session = device.summary(state)
            updates.session_changed(SessionEvent(id="r-1", type=kind, time=1.0, team=HOME, session=session))

        for kind, state in (
            ("session.offline", SessionState.HEALTHY),
            ("session.updated", SessionState.DRAINING),
        ):
            device = relay.online("cam", web=quiet)
            tell("session.online")
            stream = await one.get(HOME, "cam", ServiceName("web"), 0.0)
            one.pool.put(stream, 0.0)
            tell("session.updated")
            assert one.directory.get_nowait(HOME, "cam") == Location(device.session_id, device.epoch)
            assert len(one.pool) == 1
            tell(kind, state)
            assert one.directory.get_nowait(HOME, "cam") is None
            assert len(one.pool) == 0

    async def test_lost_events_clear_the_directory(self, dialer: tuple[ServiceDialer, FakeRelay]) -> None:
        one, relay = dialer
        relay.online("cam")
        await one.directory.get(HOME, "cam")
        DialerUpdates(one, FakeClock()).events_lost()
        assert one.directory.get_nowait(HOME, "cam") is None
