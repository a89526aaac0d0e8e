"""From a device's name to a stream: lookup and open, raced by devices that reconnect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from api_server.relay import (
    Absence,
    Forwarder,
    Location,
    ProxyClient,
    ProxyClientStore,
    ServiceDialer,
    SessionDirectory,
    StreamPool,
)
from common.ids import ServiceName, TeamId
from common.sessions.errors import (
    DeviceOfflineError,
    RelayUnavailableError,
    ServiceRefusedError,
    SessionReplacedError,
)
from tests.api_server.fakes import FakeClock
from tests.api_server.relay.fake_relay import HOME, FakeRelay, ServiceSide

pytestmark = pytest.mark.anyio

WEB = ServiceName("web")


async def quiet(side: ServiceSide) -> None:
    """Says nothing until the client has ended."""
    await side.was_reset()


class Dialing:
    """A dialer and what it stands on."""

    def __init__(self, relay: FakeRelay, client: ProxyClient) -> None:
        self.relay = relay
        self.clock = FakeClock()
        forwarder = Forwarder(relay.url, key=relay.key)
        self.store = ProxyClientStore(client, forwarder)
        self.before_open: Callable[[], None] = lambda: None
        self.dialer = ServiceDialer(SessionDirectory(self.locate, clock=self.clock, ttl=1000), forwarder, StreamPool())

    async def locate(self, team, device):  # type: ignore[no-untyped-def]
        location = await self.store.locate(team, device)
        self.before_open()
        return location


@pytest.fixture
async def dialing(anyio_backend: object) -> AsyncIterator[Dialing]:
    async with FakeRelay() as relay, ProxyClient(relay.url, key=relay.key) as client:
        yield Dialing(relay, client)


async def test_a_stream_is_opened_on_the_epoch_that_was_found(dialing: Dialing) -> None:
    device = dialing.relay.online("cam", web=quiet)
    stream = await dialing.dialer.dial(HOME, "cam", WEB)
    assert stream.session_id == device.session_id
    assert dialing.relay.opens[0]["homeport-epoch"] == str(device.epoch)
    stream.reset()


async def test_a_device_that_has_reconnected_since_is_looked_up_again(dialing: Dialing) -> None:
    dialing.relay.online("cam", web=quiet)
    await dialing.dialer.directory.get(HOME, "cam")
    newer = dialing.relay.online("cam", web=quiet)
    stream = await dialing.dialer.dial(HOME, "cam", WEB)
    assert stream.session_id == newer.session_id
    assert len(dialing.relay.opens) == 2
    stream.reset()


async def test_a_device_that_reconnects_between_lookup_and_open_is_looked_up_again(dialing: Dialing) -> None:
    dialing.relay.online("cam", web=quiet)
    races = iter((lambda: dialing.relay.online("cam", web=quiet), lambda: None))
    dialing.before_open = lambda: next(races)()
    stream = await dialing.dialer.dial(HOME, "cam", WEB)
    assert len(dialing.relay.opens) == 2
    stream.reset()


async def test_the_second_time_it_is_given_up(dialing: Dialing) -> None:
    dialing.relay.online("cam", web=quiet)
    dialing.before_open = lambda: dialing.relay.online("cam", web=quiet)
    with pytest.raises(DeviceOfflineError, match="faster"):
        await dialing.dialer.dial(HOME, "cam", WEB)
    assert len(dialing.relay.opens) == 2
    assert dialing.dialer.directory.get_nowait(HOME, "cam") is None


async def test_a_replaced_session_is_looked_up_again(dialing: Dialing) -> None:
    dialing.relay.online("cam", web=quiet)
    dialing.relay.refusal = SessionReplacedError("newer")
    with pytest.raises(DeviceOfflineError):
        await dialing.dialer.dial(HOME, "cam", WEB)
    assert len(dialing.relay.opens) == 2


async def test_a_service_that_refuses_is_not_asked_twice(dialing: Dialing) -> None:
    dialing.relay.online("cam")
    with pytest.raises(ServiceRefusedError):
        await dialing.dialer.dial(HOME, "cam", WEB)
    assert len(dialing.relay.opens) == 1


async def test_a_device_that_is_not_there(dialing: Dialing) -> None:
    with pytest.raises(DeviceOfflineError):
        await dialing.dialer.dial(HOME, "cam", WEB)
    assert dialing.relay.opens == []


async def test_an_idle_stream_is_taken_without_waiting_once_the_device_is_known(dialing: Dialing) -> None:
    dialing.relay.online("cam", web=quiet)
    dialer = dialing.dialer
    assert dialer.take(HOME, "cam", WEB, 0.0) is None
    stream = await dialer.get(HOME, "cam", WEB, 0.0)
    assert dialer.take(HOME, "cam", WEB, 0.0) is None
    dialer.pool.put(stream, 0.0)
    assert dialer.take(HOME, "cam", WEB, 0.0) is stream
    dialer.pool.put(stream, 0.0)
    dialing.clock.advance(2000)
    assert dialer.take(HOME, "cam", WEB, 0.0) is None
    assert await dialer.get(HOME, "cam", WEB, 0.0) is stream
    assert len(dialing.relay.opens) == 1
    stream.reset()


async def test_it_does_not_take_an_idle_stream_of_an_older_session(dialing: Dialing) -> None:
    dialing.relay.online("cam", web=quiet)
    stream = await dialing.dialer.get(HOME, "cam", WEB, 0.0)
    dialing.dialer.pool.put(stream, 0.0)
    newer = dialing.relay.online("cam", web=quiet)
    dialing.dialer.directory.went_online(newer.summary())
    assert dialing.dialer.take(HOME, "cam", WEB, 0.0) is None
    fresh = await dialing.dialer.get(HOME, "cam", WEB, 0.0)
    assert fresh.session_id == newer.session_id
    fresh.reset()
    dialing.dialer.pool.close()


async def test_a_request_waits_for_a_relay_that_is_started_again(dialing: Dialing) -> None:
    """The relay is away, then there without the device, then the device is back: one call, and no error."""
    absence = Absence(clock=dialing.clock, patience=10.0)
    store = dialing.store
    answers: list[Callable[[], None]] = [away, lambda: None, lambda: None]

    async def locate(team: TeamId, device: str) -> Location:
        if answers:
            answers.pop(0)()
            if not answers:
                dialing.relay.online("cam", web=quiet)
        return await store.locate(team, device)

    dialer = ServiceDialer(
        SessionDirectory(locate, clock=dialing.clock, offline_ttl=0.0), dialing.dialer.forwarder, StreamPool(), absence
    )
    absence.relay_back()
    stream = await dialer.get(HOME, "cam", WEB, 0.0)
    assert answers == []
    assert absence.waited == 2
    stream.reset()


async def test_a_request_for_a_device_that_is_away_for_reasons_of_its_own_fails_at_once(dialing: Dialing) -> None:
    absence = Absence(clock=dialing.clock, patience=10.0)
    dialer = ServiceDialer(dialing.dialer.directory, dialing.dialer.forwarder, StreamPool(), absence)
    for _ in range(2):  # asked of the relay, and remembered
        with pytest.raises(DeviceOfflineError):
            await dialer.get(HOME, "cam", WEB, 0.0)
        with pytest.raises(DeviceOfflineError):
            dialer.take(HOME, "cam", WEB, 0.0)
    assert absence.waited == 0


def away() -> None:
    raise RelayUnavailableError("restarting")
