"""Where devices are: what is remembered, for how long, and what makes it wrong sooner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from api_server.relay import Location, SessionDirectory
from common.ids import DeviceId, SessionId, TeamId
from common.sessions.errors import DeviceOfflineError, RelayUnavailableError
from common.sessions.interfaces import Summary
from tests.api_server.fakes import HOME, FakeClock, summary

pytestmark = pytest.mark.anyio


def session(number: int, epoch: int = 1) -> Summary:
    """A session of the device `cam`, whose id is `dev-1`."""
    return msgspec.structs.replace(
        summary(number, epoch=epoch), device=DeviceId("dev-1"), device_name="cam", id=SessionId(f"ses_{number:032x}")
    )


def location(number: int, epoch: int = 1) -> Location:
    return Location(session(number).id, epoch)


class Relay:
    """Finds what a test tells it to, when it is told to."""

    def __init__(self, found: Location | Exception | None = None) -> None:
        self.found: Location | Exception = found if found is not None else location(1)
        self.asked: list[tuple[TeamId, str]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def find(self, team: TeamId, device: str) -> Location:
        self.asked.append((team, device))
        await self.go.wait()
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_a_location_is_asked_for_once_and_remembered_for_a_while(clock: FakeClock) -> None:
    relay = Relay()
    directory = SessionDirectory(relay.find, clock=clock, ttl=10)
    assert directory.get_nowait(HOME, "cam") is None
    assert await directory.get(HOME, "cam") == location(1)
    clock.advance(9.9)
    assert directory.get_nowait(HOME, "cam") == location(1)
    assert await directory.get(HOME, "cam") == location(1)
    assert relay.asked == [(HOME, "cam")]
    clock.advance(0.1)
    assert directory.get_nowait(HOME, "cam") is None
    await directory.get(HOME, "cam")
    assert len(relay.asked) == 2


async def test_teams_do_not_see_each_others_devices(clock: FakeClock) -> None:
    relay = Relay()
    directory = SessionDirectory(relay.find, clock=clock)
    await directory.get(HOME, "cam")
    assert directory.get_nowait(TeamId("away"), "cam") is None


async def test_an_offline_device_is_remembered_for_a_moment(clock: FakeClock) -> None:
    relay = Relay(DeviceOfflineError("gone"))
    directory = SessionDirectory(relay.find, clock=clock, offline_ttl=0.5)
    for _ in range(3):
        with pytest.raises(DeviceOfflineError):
            await directory.get(HOME, "cam")
    with pytest.raises(DeviceOfflineError, match="cam"):
        directory.get_nowait(HOME, "cam")
    assert len(relay.asked) == 1
    clock.advance(0.5)
    relay.found = location(2)
    assert await directory.get(HOME, "cam") == location(2)


async def test_another_failure_is_not_remembered(clock: FakeClock) -> None:
    relay = Relay(RelayUnavailableError("away"))
    directory = SessionDirectory(relay.find, clock=clock)
    with pytest.raises(RelayUnavailableError):
        await directory.get(HOME, "cam")
    relay.found = location(1)
    assert await directory.get(HOME, "cam") == location(1)


class TestManyAtOnce:
    async def test_one_asks_and_all_are_told(self, clock: FakeClock) -> None:
        relay = Relay()
        relay.go.clear()
        directory = SessionDirectory(relay.find, clock=clock)
        waiting = [asyncio.ensure_future(directory.get(HOME, "cam")) for _ in range(100)]
        await asyncio.sleep(0)
        assert "1 lookups under way" in repr(directory)
        relay.go.set()
        assert await asyncio.gather(*waiting) == [location(1)] * 100
        assert len(relay.asked) == 1
        assert directory.statistics().lookups == 1

    @pytest.mark.parametrize("error", [DeviceOfflineError("gone"), RelayUnavailableError("away")])
    async def test_a_failure_is_told_to_all(self, clock: FakeClock, error: Exception) -> None:
        relay = Relay(error)
        relay.go.clear()
        directory = SessionDirectory(relay.find, clock=clock)
        waiting = [asyncio.ensure_future(directory.get(HOME, "cam")) for _ in range(10)]
        await asyncio.sleep(0)
        relay.go.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [type(error)] * 10
        assert len(relay.asked) == 1

    async def test_if_the_one_who_asks_is_cancelled_another_asks(self, clock: FakeClock) -> None:
        relay = Relay()
        relay.go.clear()
        directory = SessionDirectory(relay.find, clock=clock)
        waiting = [asyncio.ensure_future(directory.get(HOME, "cam")) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        while len(relay.asked) < 2:
            await asyncio.sleep(0)
        relay.go.set()
        assert await asyncio.gather(*waiting[1:]) == [location(1)] * 4
        assert waiting[0].cancelled()
        assert len(relay.asked) == 2


class TestWrongEntries:
    async def test_one_that_the_relay_refused_is_dropped(self, clock: FakeClock) -> None:
        relay = Relay()
        directory = SessionDirectory(relay.find, clock=clock)
        found = await directory.get(HOME, "cam")
        directory.forget(HOME, "cam", found)
        directory.forget(HOME, "cam", found)
        assert directory.get_nowait(HOME, "cam") is None
        assert directory.statistics().forgotten == 1

    async def test_a_late_refusal_does_not_drop_a_newer_one(self, clock: FakeClock) -> None:
        relay = Relay()
        directory = SessionDirectory(relay.find, clock=clock)
        old = await directory.get(HOME, "cam")
        directory.went_online(session(2, epoch=2))
        directory.forget(HOME, "cam", old)
        assert directory.get_nowait(HOME, "cam") == location(2, epoch=2)


class TestEvents:
    @pytest.mark.parametrize("name", ["cam", "dev-1"])
    async def test_a_device_that_reconnects_is_there_at_once(self, clock: FakeClock, name: str) -> None:
        directory = SessionDirectory(Relay().find, clock=clock)
        await directory.get(HOME, name)
        directory.went_online(session(2, epoch=2))
        assert directory.get_nowait(HOME, name) == location(2, epoch=2)

    async def test_one_that_was_offline_is_found_without_waiting(self, clock: FakeClock) -> None:
        relay = Relay(DeviceOfflineError())
        directory = SessionDirectory(relay.find, clock=clock, offline_ttl=100)
        with pytest.raises(DeviceOfflineError):
            await directory.get(HOME, "cam")
        directory.went_online(session(2))
        assert directory.get_nowait(HOME, "cam") == location(2)

    async def test_what_nobody_asks_for_is_not_remembered(self, clock: FakeClock) -> None:
        directory = SessionDirectory(Relay().find, clock=clock)
        directory.went_online(session(1))
        assert directory.statistics().entries == 0

    async def test_a_late_event_of_an_older_session_changes_nothing(self, clock: FakeClock) -> None:
        directory = SessionDirectory(Relay(location(5, epoch=5)).find, clock=clock)
        await directory.get(HOME, "cam")
        directory.went_online(session(4, epoch=4))
        directory.went_offline(session(4, epoch=4))
        assert directory.get_nowait(HOME, "cam") == location(5, epoch=5)
        directory.went_offline(session(5, epoch=5))
        assert directory.get_nowait(HOME, "cam") is None

    @pytest.mark.parametrize(
        "tell",
        [
            lambda directory: directory.went_offline(session(1)),
            lambda directory: directory.went_online(session(2, epoch=2)),
            lambda directory: directory.clear(),
        ],
    )
    async def test_a_lookup_that_an_event_overtakes_is_used_and_not_remembered(
        self, clock: FakeClock, tell: Callable[[SessionDirectory], None]
    ) -> None:
        relay = Relay(location(1))
        relay.go.clear()
        directory = SessionDirectory(relay.find, clock=clock)
        looking = asyncio.ensure_future(directory.get(HOME, "cam"))
        await asyncio.sleep(0)
        tell(directory)
        relay.go.set()
        assert await looking == location(1)
        assert directory.get_nowait(HOME, "cam") is None

    async def test_an_event_about_another_device_does_not_matter(self, clock: FakeClock) -> None:
        relay = Relay(location(1))
        relay.go.clear()
        directory = SessionDirectory(relay.find, clock=clock)
        looking = asyncio.ensure_future(directory.get(HOME, "cam"))
        await asyncio.sleep(0)
        directory.went_online(summary(7))
        relay.go.set()
        await looking
        assert directory.get_nowait(HOME, "cam") == location(1)

    async def test_all_is_forgotten_when_events_were_lost(self, clock: FakeClock) -> None:
        directory = SessionDirectory(Relay().find, clock=clock)
        await directory.get(HOME, "cam")
        directory.clear()
        assert directory.get_nowait(HOME, "cam") is None


async def test_it_does_not_grow_without_bound(clock: FakeClock) -> None:
    directory = SessionDirectory(Relay().find, clock=clock, max_entries=3)
    for number in range(5):
        await directory.get(HOME, f"cam-{number}")
    assert directory.statistics().entries == 3
    assert directory.get_nowait(HOME, "cam-1") is None
    assert directory.get_nowait(HOME, "cam-4") is not None
