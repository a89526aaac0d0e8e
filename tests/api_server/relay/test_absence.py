"""When a request waits for the relay, for how long, and when it does not."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from api_server.relay import Absence, EventKind, SessionEvent
from common.ids import SessionId, TeamId
from common.sessions.interfaces import SessionState, Summary
from tests.api_server.fakes import FakeClock

HOME = TeamId("home")


class Case:
    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.absence = Absence(clock=self.clock, patience=10.0, **settings)

    def left(self, device: str = "cam", *, vanished: bool = False) -> float:
        """Seconds that a request for the device may wait from now on."""
        vanished_at = self.clock.monotonic() if vanished else None
        return max(0.0, self.absence.deadline(HOME, device, vanished_at=vanished_at) - self.clock.monotonic())

    def happens(
        self,
        kind: EventKind,
        reason: str | None = None,
        *,
        state: SessionState = SessionState.HEALTHY,
        device: str = "cam",
    ) -> None:
        session = msgspec.convert(
            {
                "id": SessionId("ses_1"),
                "device": f"dev-{device}",
                "device_name": device,
                "team": HOME,
                "relay": "relay",
                "epoch": 1,
                "state": state,
                "connected_at": 0.0,
                "last_heartbeat": 0.0,
                "rtt_ms": None,
                "streams": 0,
                "bytes_in": 0,
                "bytes_out": 0,
                "subprotocol": "homeport.v1",
                "remote_address": "",
                "agent_version": None,
            },
            Summary,
        )
        self.absence.session_changed(
            SessionEvent(id="1", type=kind, time=0.0, team=HOME, session=session, reason=reason)
        )


@pytest.fixture
def case() -> Case:
    case = Case()
    case.absence.relay_back()
    return case


def test_nobody_waits_while_all_is_well(case: Case) -> None:
    assert case.left() == 0


def test_a_relay_that_never_answered_is_not_waited_for() -> None:
    case = Case()
    case.absence.events_lost()
    case.absence.relay_lost()
    assert case.left() == 0


def test_a_lost_relay_is_waited_for_once_and_not_by_each_for_as_long(case: Case) -> None:
    case.absence.relay_lost()
    assert case.left() == 10
    case.clock.advance(7)
    case.absence.relay_lost()
    assert case.left() == 3
    case.clock.advance(4)
    assert case.left() == 0


def test_when_it_is_back_devices_have_time_to_follow(case: Case) -> None:
    case.absence.relay_lost()
    case.clock.advance(100)
    case.absence.relay_back()
    assert case.left() == 10
    case.clock.advance(10)
    assert case.left() == 0


def test_when_it_may_be_another_one_devices_have_time_too(case: Case) -> None:
    case.clock.advance(100)
    case.absence.events_lost()
    assert case.left() == 10


@pytest.mark.parametrize("name", ["cam", "dev-cam"])
def test_a_device_that_went_by_itself_is_not_waited_for(case: Case, name: str) -> None:
    case.absence.events_lost()
    case.happens(EventKind.OFFLINE, "dead")
    assert case.left(name, vanished=True) == 0
    assert case.left("door") == 10
    case.happens(EventKind.ONLINE)
    assert case.left(name) == 10


@pytest.mark.parametrize("by", [EventKind.OFFLINE, EventKind.UPDATED])
def test_a_device_that_is_sent_away_is_waited_for(case: Case, by: EventKind) -> None:
    case.clock.advance(100)
    if by is EventKind.OFFLINE:
        case.happens(by, "draining")
    else:
        case.happens(by, state=SessionState.DRAINING)
    assert case.left() == 10
    assert case.left("door") == 0
    case.clock.advance(4)
    case.happens(EventKind.OFFLINE, "draining")
    assert case.left() == 6, "counted from the first word of it"


def test_a_device_that_drains_and_then_went_by_itself_is_not_waited_for(case: Case) -> None:
    """It stopped in order; the relay only ended what the device had begun."""
    case.happens(EventKind.UPDATED, state=SessionState.DRAINING)
    case.happens(EventKind.OFFLINE, "closed_by_device")
    assert case.left(vanished=True) == 0


def test_one_that_vanished_without_a_word_is_waited_for_a_moment(case: Case) -> None:
    case.clock.advance(100)
    assert case.left(vanished=True) == 1
    case.happens(EventKind.OFFLINE, "network")
    assert case.left(vanished=True) == 0


def test_without_patience_nobody_ever_waits() -> None:
    clock = FakeClock()
    absence = Absence(clock=clock, patience=0.0)
    absence.relay_back()
    absence.relay_lost()
    assert absence.deadline(HOME, "cam", vanished_at=clock.monotonic()) <= clock.monotonic()


@pytest.mark.anyio
async def test_who_waits_is_woken_by_news(case: Case) -> None:
    case.absence.relay_lost()
    waiting = asyncio.ensure_future(case.absence.wait(case.clock.monotonic() + 3600))
    await asyncio.sleep(0)
    assert (case.absence.waiting, waiting.done()) == (1, False)
    case.absence.relay_back()
    assert await waiting
    assert (case.absence.waiting, case.absence.waited) == (0, 1)


@pytest.mark.anyio
async def test_when_the_time_is_over_nobody_waits(case: Case) -> None:
    assert not await case.absence.wait(case.clock.monotonic())
    assert case.absence.waited == 0


@pytest.mark.anyio
async def test_more_than_so_many_do_not_wait() -> None:
    case = Case(max_waiting=1)
    case.absence.relay_back()
    case.absence.relay_lost()
    until = case.clock.monotonic() + 3600
    first = asyncio.ensure_future(case.absence.wait(until))
    await asyncio.sleep(0)
    assert not await case.absence.wait(until)
    case.absence.relay_back()
    assert await first
