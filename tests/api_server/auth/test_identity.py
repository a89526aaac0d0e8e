"""What an identity may call through the gateway: everything of its teams, or what its reach covers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from api_server.auth.interfaces import Action, Decision, Identity, Reach
from common.ids import TeamId
from tests.api_server.fakes import AWAY, HOME


@dataclass(frozen=True)
class Target:
    team: TeamId = HOME
    device: str | None = None
    name: str | None = None
    tags: frozenset[str] = frozenset()


CAM = Target(device="cam")
PRICES = Target(name="prices", tags=frozenset({"public", "v2"}))
CAM_BY_ROUTE = Target(name="porch", device="cam")


def caller(reach: Reach | None, *actions: Action) -> Identity:
    return Identity(kind="token", id="tok_1", name="ci", teams={HOME: frozenset(actions)}, reach=reach)


def test_without_a_reach_everything_of_the_team_may_be_called() -> None:
    for target in (CAM, PRICES, CAM_BY_ROUTE):
        assert caller(None, Action.GATEWAY_CALL).decide_call(target) is Decision.ALLOWED


def test_t2_without_the_action_a_reach_is_nothing() -> None:
    everything = Reach(routes=frozenset({"prices"}), devices=frozenset({"cam"}))
    assert caller(everything, Action.DEVICES_READ).decide_call(CAM) is Decision.FORBIDDEN
    assert caller(None, Action.DEVICES_READ).decide_call(CAM) is Decision.FORBIDDEN


def test_a2_another_team_is_unknown_whatever_the_reach() -> None:
    reach = Reach(devices=frozenset({"cam"}))
    assert caller(reach, Action.GATEWAY_CALL).decide_call(Target(team=AWAY, device="cam")) is Decision.UNKNOWN_TEAM


@pytest.mark.parametrize(
    ("reach", "covered"),
    [
        (Reach(), set()),
        (Reach(devices=frozenset({"cam"})), {CAM}),
        (Reach(devices=frozenset({"camera"})), set()),
        (Reach(routes=frozenset({"prices"})), {PRICES}),
        (Reach(routes=frozenset({"porch", "cam"})), {CAM_BY_ROUTE}),
        (Reach(tags=frozenset({"v2"})), {PRICES}),
        (Reach(tags=frozenset({"v2", "v1"}), devices=frozenset({"cam"})), {PRICES, CAM}),
        (Reach(tags=frozenset({"prices", "cam"})), set()),
    ],
    ids=["nothing", "a device", "no such device", "a route", "two routes", "a tag", "a tag and a device", "names"],
)
def test_t2_a_reach_covers_what_it_names_and_nothing_else(reach: Reach, covered: set[Target]) -> None:
    found = caller(reach, Action.GATEWAY_CALL)
    assert {each for each in (CAM, PRICES, CAM_BY_ROUTE) if found.decide_call(each) is Decision.ALLOWED} == covered
