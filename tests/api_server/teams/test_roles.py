"""The table of roles: A1."""

from __future__ import annotations

import itertools

import pytest

from api_server.auth.interfaces import INSTALLATION_ACTIONS, Action
from api_server.teams.roles import TABLE, Role, actions_of, installation_actions_of, roles_page
from common.ids import TeamId

HOME, AWAY = TeamId("home"), TeamId("away")

AS_DESIGNED = """
teams.create            y - - -
users.invite            y - - -
teams.edit              y - - -
teams.delete            y - - -
members.manage          y y - -
members.manage_leaders  y - - -
users.read              y y - -
devices.read            y y y y
devices.create          y y y -
devices.change          y y - -
devices.change_own      y y y -
pairing_tokens.read         y y y y
pairing_tokens.create       y y y -
pairing_tokens.change       y y - -
pairing_tokens.change_own   y y y -
api_tokens.read         y y y y
api_tokens.create       y y y -
api_tokens.change       y y - -
api_tokens.change_own   y y y -
"""
"""The cells that were settled before there was code; what is not among them was decided with it."""


@pytest.mark.parametrize("line", AS_DESIGNED.strip().splitlines(), ids=lambda line: line.split()[0])
def test_a1_the_table_is_as_designed(line: str) -> None:
    action, *cells = line.split()
    assert [Action(action) in actions_of(role) for role in Role] == [cell == "y" for cell in cells]


def test_a1_every_action_of_a_team_stands_in_the_table_once() -> None:
    listed = [action for row in TABLE for action in row.actions]
    assert sorted(listed) == sorted(frozenset(Action) - INSTALLATION_ACTIONS)


def test_a1_a_role_may_never_do_less_than_the_one_below() -> None:
    ladder = [actions_of(role) for role in Role]
    assert all(above > below for above, below in itertools.pairwise(ladder))


def test_the_installation_is_up_to_the_admins_of_its_first_team() -> None:
    assert installation_actions_of({HOME: Role.ADMIN}, HOME) == INSTALLATION_ACTIONS
    assert not installation_actions_of({HOME: Role.MANAGER, AWAY: Role.ADMIN}, HOME)
    assert not installation_actions_of({}, HOME)


def test_the_page_has_a_line_for_each_row() -> None:
    page = roles_page()
    for row in TABLE:
        cells = " | ".join("yes" if role in row.roles else "-" for role in Role)
        assert f"| {row.may} | {cells} |" in page
