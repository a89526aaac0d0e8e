"""What a token may do: scopes, as text, as rights, and as part of what somebody else may do.

    devices:read                one action on one kind of thing: the `Action` devices.read
    devices:change              whosever it is, and so one's own as well: devices:change_own
    devices:*                   all that a team's members can do with devices, what is added later included
    *                           all that they can do in the team; never what concerns the installation
    metrics:read                what concerns the installation, by its own name alone
    gateway:call                call everything of the team through the gateway
    gateway:call:prices         the route of that name
    gateway:call:tag:public     the routes with that tag
    gateway:call:device:porch   the device by its own path or host, where it is called so: by name, or by id

A token gets what was asked for and nothing by default. What is granted must be held whole by whoever grants it (T2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from api_server.auth.interfaces import INSTALLATION_ACTIONS, Action, Identity, Reach
from api_server.tokens.errors import ScopeNotGrantedError, UnknownScopeError
from common.ids import TeamId, is_device_id, is_name

__all__ = ["Grant", "check_granted", "grant_of", "known_scopes", "scopes_page"]

_EVERYTHING: Final = "*"
_CALL: Final = "gateway:call"
_OF_A_TEAM: Final = frozenset(Action) - INSTALLATION_ACTIONS
_BY_SCOPE: Final = {action.value.replace(".", ":"): action for action in Action}


def _wildcards() -> dict[str, frozenset[Action]]:
    made: dict[str, set[Action]] = {_EVERYTHING: set(_OF_A_TEAM)}
    for action in _OF_A_TEAM:
        made.setdefault(f"{action.value.partition('.')[0]}:*", set()).add(action)
    return {scope: frozenset(actions) for scope, actions in made.items()}


_WILDCARDS: Final = _wildcards()


class Grant(NamedTuple):
    """What scopes say."""

    actions: frozenset[Action]
    reach: Reach | None
    """Of the calls through the gateway, if `actions` has them at all; None for everything of the team."""


def known_scopes() -> tuple[str, ...]:
    """Every scope that has a name of its own, for the reference."""
    return (*sorted(_WILDCARDS), *sorted(_BY_SCOPE))


_PAGE = """\
# Scopes

Written from the code by `python -m homeport.reference docs/reference`.

What an API token may do is the sum of its scopes, met with what its issuer may do at the moment of use. There are none
by default. Each names a resource and an action; [roles](roles.md) says what the action is, and who has it.

| scope | what it allows |
| --- | --- |
| `*` | all that members can do in the team; given only by who may do all of it. Never what concerns the installation |
| `RESOURCE:*` | all actions of one resource that concern the team, those of later versions included |
| `RESOURCE:change`, `RESOURCE:close` | whosever it is, and so one's own as well |
| `gateway:call` | call every device and route of the team through the gateway |
| `gateway:call:NAME` | call the route of that name |
| `gateway:call:tag:TAG` | call the routes with that tag |
| `gateway:call:device:DEVICE` | call the device where its path or host has that name, or that id |

## Each by its name

| scope | concerns |
| --- | --- |
"""


def scopes_page() -> str:
    """The scopes as a page of the reference."""
    lines = [f"| `{scope}` | {_concerns(_WILDCARDS[scope])} |" for scope in sorted(_WILDCARDS) if scope != _EVERYTHING]
    lines += [f"| `{scope}` | {_concerns({_BY_SCOPE[scope]})} |" for scope in sorted(_BY_SCOPE)]
    return _PAGE + "\n".join(lines) + "\n"


def _concerns(actions: Iterable[Action]) -> str:
    return "the installation" if INSTALLATION_ACTIONS.issuperset(actions) else "the team"


def grant_of(scopes: Iterable[str]) -> Grant:
    """What `scopes` say.

    Raises:
        UnknownScopeError: one says nothing.
    """
    actions: set[Action] = set()
    named: dict[str, set[str]] = {"route": set(), "tag": set(), "device": set()}
    everything = False
    for scope in scopes:
        if scope in _WILDCARDS:
            actions |= _WILDCARDS[scope]
            everything = everything or Action.GATEWAY_CALL in _WILDCARDS[scope]
        elif scope in _BY_SCOPE:
            actions |= {_BY_SCOPE[scope], _BY_SCOPE.get(scope + "_own", _BY_SCOPE[scope])}
            everything = everything or scope == _CALL
        else:
            kind, name = _narrowed(scope)
            actions.add(Action.GATEWAY_CALL)
            named[kind].add(name)
    if everything or Action.GATEWAY_CALL not in actions:
        return Grant(frozenset(actions), None)
    reach = Reach(routes=frozenset(named["route"]), tags=frozenset(named["tag"]), devices=frozenset(named["device"]))
    return Grant(frozenset(actions), reach)


def check_granted(scopes: Iterable[str], identity: Identity, team: TeamId) -> None:
    """Whether `identity` may give `scopes` in `team` to a token: it holds each of them itself, whole.

    Raises:
        ScopeNotGrantedError: it does not.
        UnknownScopeError: one says nothing.
    """
    for scope in scopes:
        actions, reach = grant_of((scope,))
        lacking = [each for each in actions if not identity.may(each, None if each in INSTALLATION_ACTIONS else team)]
        if lacking or (Action.GATEWAY_CALL in actions and not _within(reach, identity.reach)):
            raise ScopeNotGrantedError(f"{identity.name!r} cannot give {scope!r} to a token, not having all of it")


def _within(asked: Reach | None, held: Reach | None) -> bool:
    if held is None:
        return True
    return asked is not None and (
        asked.routes <= held.routes and asked.tags <= held.tags and asked.devices <= held.devices
    )


def _narrowed(scope: str) -> tuple[str, str]:
    """What a call is narrowed to: `route`, `tag` or `device`, and which."""
    prefix, _, rest = scope.partition(_CALL + ":")
    if prefix == "" and rest:
        kind, colon, name = rest.partition(":")
        if not colon and is_name(kind):
            return "route", kind
        if kind in ("tag", "device") and (is_name(name) or (kind == "device" and is_device_id(name))):
            return kind, name
    raise UnknownScopeError(f"{_shown(scope)} is no scope; the reference of tokens lists them")


def _shown(scope: str) -> str:
    return repr(scope if len(scope) <= 100 else scope[:100] + "...")
