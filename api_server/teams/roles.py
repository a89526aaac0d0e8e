"""Who may do what: one table, from which the checks, the reference and the tests are made.

A role is held in one team and says nothing about any other. Actions on things come in four: see, create, change any,
change own. What concerns the installation as a whole is up to the ADMINs of its first team.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from api_server.auth.interfaces import INSTALLATION_ACTIONS, Action
from common.ids import TeamId

__all__ = ["LEADERS", "TABLE", "Role", "Row", "actions_of", "installation_actions_of", "roles_page"]


class Role(StrEnum):
    """What a user is in a team; from the most to the least."""

    ADMIN = "ADMIN"
    MANAGER = "MANAGER"
    DEVELOPER = "DEVELOPER"
    VIEWER = "VIEWER"


LEADERS: Final = frozenset({Role.ADMIN, Role.MANAGER})
"""Only an ADMIN may touch them."""

_ADMIN = (Role.ADMIN,)
_MANAGERS = (Role.ADMIN, Role.MANAGER)
_DEVELOPERS = (Role.ADMIN, Role.MANAGER, Role.DEVELOPER)
_ALL = tuple(Role)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    subject: str
    """What it is about; lines of one subject stand together."""
    may: str
    """What is allowed, for people."""
    actions: tuple[Action, ...]
    roles: tuple[Role, ...]


TABLE: Final = (
    Row("teams", "create a team", (Action.TEAMS_CREATE,), _ADMIN),
    Row("teams", "see the team and its members", (Action.TEAMS_READ,), _ALL),
    Row("teams", "edit the team", (Action.TEAMS_EDIT,), _ADMIN),
    Row("teams", "delete the team when it is empty", (Action.TEAMS_DELETE,), _ADMIN),
    Row("people", "invite a user", (Action.USERS_INVITE,), _ADMIN),
    Row("people", "list users", (Action.USERS_READ,), _MANAGERS),
    Row("people", "add, change, remove a DEVELOPER or VIEWER", (Action.MEMBERS_MANAGE,), _MANAGERS),
    Row("people", "set, change, remove an ADMIN or MANAGER", (Action.MEMBERS_MANAGE_LEADERS,), _ADMIN),
    Row("devices", "see", (Action.DEVICES_READ,), _ALL),
    Row("devices", "create", (Action.DEVICES_CREATE,), _DEVELOPERS),
    Row("devices", "change any", (Action.DEVICES_CHANGE,), _MANAGERS),
    Row("devices", "change own", (Action.DEVICES_CHANGE_OWN,), _DEVELOPERS),
    Row("pairing tokens", "see", (Action.PAIRING_TOKENS_READ,), _ALL),
    Row("pairing tokens", "create", (Action.PAIRING_TOKENS_CREATE,), _DEVELOPERS),
    Row("pairing tokens", "change any", (Action.PAIRING_TOKENS_CHANGE,), _MANAGERS),
    Row("pairing tokens", "change own", (Action.PAIRING_TOKENS_CHANGE_OWN,), _DEVELOPERS),
    Row("API tokens", "see", (Action.API_TOKENS_READ,), _ALL),
    Row("API tokens", "create", (Action.API_TOKENS_CREATE,), _DEVELOPERS),
    Row("API tokens", "change any", (Action.API_TOKENS_CHANGE,), _MANAGERS),
    Row("API tokens", "change own", (Action.API_TOKENS_CHANGE_OWN,), _DEVELOPERS),
    Row("sessions", "see, and follow events", (Action.SESSIONS_READ, Action.EVENTS_READ), _ALL),
    Row("sessions", "close any", (Action.SESSIONS_CLOSE,), _MANAGERS),
    Row("sessions", "close those of own devices", (Action.SESSIONS_CLOSE_OWN,), _DEVELOPERS),
    Row("services", "call a device's services", (Action.GATEWAY_CALL,), _DEVELOPERS),
    Row("provider tokens", "see providers, and own connections", (Action.PROVIDER_TOKENS_READ,), _ALL),
    Row("provider tokens", "connect and disconnect for oneself", (Action.PROVIDER_TOKENS_CONNECT,), _DEVELOPERS),
    Row("provider tokens", "get access tokens of own connections", (Action.PROVIDER_TOKENS_USE,), _DEVELOPERS),
    Row("routes", "see", (Action.ROUTES_READ,), _ALL),
    Row("routes", "create", (Action.ROUTES_CREATE,), _DEVELOPERS),
    Row("routes", "change", (Action.ROUTES_CHANGE,), _MANAGERS),
    Row("routes", "delete", (Action.ROUTES_DELETE,), _ADMIN),
    Row("upstream secrets", "see, without their values", (Action.UPSTREAM_SECRETS_READ,), _ALL),
    Row("upstream secrets", "create", (Action.UPSTREAM_SECRETS_CREATE,), _DEVELOPERS),
    Row("upstream secrets", "change any", (Action.UPSTREAM_SECRETS_CHANGE,), _MANAGERS),
    Row("upstream secrets", "change own", (Action.UPSTREAM_SECRETS_CHANGE_OWN,), _DEVELOPERS),
    Row("realms", "see", (Action.REALMS_READ, Action.REALM_SECRETS_READ), _ALL),
    Row("realms", "create realms and their secrets", (Action.REALMS_CREATE, Action.REALM_SECRETS_CREATE), _DEVELOPERS),
    Row("realms", "change any", (Action.REALMS_CHANGE, Action.REALM_SECRETS_CHANGE), _MANAGERS),
    Row("realms", "change own", (Action.REALMS_CHANGE_OWN, Action.REALM_SECRETS_CHANGE_OWN), _DEVELOPERS),
    Row("realms", "get tokens of providers", (Action.REALM_TOKENS_GET,), _DEVELOPERS),
    Row("realms", "flush them", (Action.REALM_TOKENS_FLUSH,), _MANAGERS),
    Row("audit", "read the team's audit log", (Action.AUDIT_READ,), _MANAGERS),
    Row("limits", "see", (Action.LIMITS_READ,), _ALL),
    Row("limits", "change those of tokens and routes", (Action.LIMITS_CHANGE,), _ADMIN),
    Row("usage", "see", (Action.USAGE_READ,), _DEVELOPERS),
    Row("webhooks", "see", (Action.WEBHOOKS_READ,), _ALL),
    Row("webhooks", "create", (Action.WEBHOOKS_CREATE,), _DEVELOPERS),
    Row("webhooks", "change any", (Action.WEBHOOKS_CHANGE,), _MANAGERS),
    Row("webhooks", "change own", (Action.WEBHOOKS_CHANGE_OWN,), _DEVELOPERS),
)
"""Every action that concerns a team, each once."""


def _by_role() -> dict[Role, frozenset[Action]]:
    return {role: frozenset(action for row in TABLE if role in row.roles for action in row.actions) for role in Role}


_ACTIONS: Final = _by_role()


def actions_of(role: Role) -> frozenset[Action]:
    """What a role allows in its team."""
    return _ACTIONS[role]


def installation_actions_of(roles: Mapping[TeamId, Role], first_team: TeamId) -> frozenset[Action]:
    """What somebody may do that concerns no team.

    Args:
        roles: of the user, by team.
        first_team: of the installation.
    """
    return INSTALLATION_ACTIONS if roles.get(first_team) is Role.ADMIN else frozenset()


_HEAD = """\
# Roles

Written from the code by `python -m homeport.reference docs/reference`.

A user has one role in each team that they belong to. A team that one does not belong to does not exist as far as its
things are concerned: the answer is 404, not 403. The first person who signs in to a new installation becomes ADMIN of
its first team; everybody else is added by an ADMIN or MANAGER, or comes by invitation.
"""

_TAIL = """\
- *Own* is what one has created oneself.
- ADMINs of the installation's first team also read metrics, disable users, set the default limits and those of teams,
  and read the audit log of what concerns no team. The administration token may do all of that, and everything in the
  first team.
- The last ADMIN of a team can neither leave, nor be removed, nor become something less.
- Whoever invites must be ADMIN of each team that the invitation names.
- A team can be deleted when nobody but oneself is a member and it has no devices. Its name is never given out again.
"""


def roles_page() -> str:
    """The table as a page of the reference."""
    lines = [_HEAD, f"| {' | '.join(['', 'may', *Role, 'action'])} |", f"| {' | '.join(['---'] * (len(Role) + 3))} |"]
    before = ""
    for row in TABLE:
        cells = ["yes" if role in row.roles else "-" for role in Role]
        subject = "" if row.subject == before else row.subject
        lines.append(f"| {' | '.join([subject, row.may, *cells, _codes(row.actions)])} |")
        before = row.subject
    return "\n".join([*lines, "", _TAIL])


def _codes(actions: Iterable[Action]) -> str:
    return ", ".join(f"`{action}`" for action in actions)
