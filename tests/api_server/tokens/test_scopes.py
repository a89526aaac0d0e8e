"""Scopes: what they say, and who may give them (T2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.auth.interfaces import INSTALLATION_ACTIONS, Action, Identity, Reach
from api_server.teams.roles import Role, actions_of
from api_server.tokens.errors import ScopeNotGrantedError, UnknownScopeError
from api_server.tokens.scopes import check_granted, grant_of, known_scopes
from common.ids import new_device_id
from tests.api_server.fakes import AWAY, HOME

OF_A_TEAM = frozenset(Action) - INSTALLATION_ACTIONS


def test_t2_no_scope_says_nothing() -> None:
    assert grant_of(()) == (frozenset(), None)


@pytest.mark.parametrize("action", Action)
def test_each_action_has_a_scope(action: Action) -> None:
    actions, reach = grant_of((action.value.replace(".", ":"),))
    assert action in actions
    assert reach is None
    assert actions - {action} <= {f"{action}_own"}, "who may change any may change own"


def test_a_wildcard_is_all_of_one_kind_and_nothing_of_the_installation() -> None:
    assert grant_of(("*",)) == (OF_A_TEAM, None)
    assert grant_of(("devices:*",)).actions == {action for action in OF_A_TEAM if action.startswith("devices.")}
    assert Action.USERS_DISABLE not in grant_of(("users:*",)).actions
    assert grant_of(("gateway:*",)) == ({Action.GATEWAY_CALL}, None)


def test_calls_are_narrowed_to_routes_tags_and_devices() -> None:
    device = new_device_id()
    actions, reach = grant_of(
        (
            "gateway:call:prices",
            "gateway:call:tag",
            "gateway:call:tag:public",
            "gateway:call:device:porch",
            f"gateway:call:device:{device}",
            "devices:read",
        )
    )
    assert actions == {Action.GATEWAY_CALL, Action.DEVICES_READ}
    assert reach == Reach(
        routes=frozenset({"prices", "tag"}), tags=frozenset({"public"}), devices=frozenset({"porch", device})
    )


@pytest.mark.parametrize("whole", ["gateway:call", "gateway:*", "*"])
def test_the_whole_is_not_narrowed_by_a_part(whole: str) -> None:
    assert grant_of(("gateway:call:prices", whole)).reach is None


UNKNOWN = [
    "",
    " ",
    "*:*",
    "**",
    "devices",
    "devices:",
    ":read",
    "devices.read",
    "devices:read ",
    "Devices:read",
    "devices:read:x",
    "metrics:*",
    "nothing:*",
    "gateway:call:",
    "gateway:call:*",
    "gateway:call:tag:",
    "gateway:call:tag:*",
    "gateway:call:tag:a:b",
    "gateway:call:route:prices",
    "gateway:call:device:",
    "gateway:call:device:dev-1/../x",
    "gateway:call:Prices",
    "gateway:call:pri ces",
    "gateway:call:prices\n",
    "gateway:call:" + "a" * 41,
    "x" * 1000,
    "devices:re\u0430d",  # a Cyrillic letter
]


@pytest.mark.parametrize("scope", UNKNOWN)
def test_everything_else_is_no_scope(scope: str) -> None:
    with pytest.raises(UnknownScopeError):
        grant_of((scope,))


@given(scope=st.text(max_size=60) | st.from_regex(r"[a-z]+:[a-z_*]+(:[a-z:*]+)?", fullmatch=True))
def test_no_text_raises_anything_else(scope: str) -> None:
    try:
        actions, _ = grant_of((scope,))
    except UnknownScopeError:
        return
    assert actions
    assert scope in known_scopes() or scope.startswith("gateway:call:")


def holder(role: Role | None = None, *, reach: Reach | None = None, installation: bool = False) -> Identity:
    return Identity(
        kind="user",
        id="usr_1",
        name="ann",
        teams={HOME: frozenset() if role is None else actions_of(role)},
        installation=INSTALLATION_ACTIONS if installation else frozenset(),
        reach=reach,
    )


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("scope", known_scopes())
def test_t2_nobody_gives_more_than_they_have(role: Role, scope: str) -> None:
    needed = grant_of((scope,)).actions
    has_it = needed <= actions_of(role)
    if has_it:
        check_granted((scope,), holder(role), HOME)
    else:
        with pytest.raises(ScopeNotGrantedError):
            check_granted((scope,), holder(role), HOME)
    with pytest.raises(ScopeNotGrantedError):
        check_granted((scope,), holder(role), AWAY)


def test_t2_what_concerns_the_installation_is_given_by_those_who_look_after_it() -> None:
    check_granted(("metrics:read", "*"), holder(Role.ADMIN, installation=True), HOME)
    with pytest.raises(ScopeNotGrantedError):
        check_granted(("metrics:read",), holder(Role.ADMIN), HOME)


@pytest.mark.parametrize(
    ("scope", "given_on"),
    [
        ("gateway:call", False),
        ("gateway:call:prices", True),
        ("gateway:call:orders", False),
        ("gateway:call:tag:public", True),
        ("gateway:call:tag:prices", False),
        ("gateway:call:device:porch", True),
        ("gateway:call:device:lathe", False),
    ],
)
def test_t2_who_may_call_a_part_gives_that_part_on(scope: str, given_on: bool) -> None:
    part = Reach(routes=frozenset({"prices"}), tags=frozenset({"public"}), devices=frozenset({"porch"}))
    who = holder(Role.DEVELOPER, reach=part)
    if given_on:
        check_granted((scope,), who, HOME)
    else:
        with pytest.raises(ScopeNotGrantedError):
            check_granted((scope,), who, HOME)
