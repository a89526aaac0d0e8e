"""What is written down about an action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from api_server.http.routes import Caller
from common.ids import TeamId

__all__ = ["DONE", "REFUSED", "SYSTEM", "Actor", "AuditEntry", "actor_of", "entry_of"]

DONE: Final = "done"
REFUSED: Final = "refused"
"""The action was not allowed, or what was shown for it did not hold; nothing but this entry was written."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it."""

    kind: str
    """user, token, service, device, or system."""
    id: str
    name: str
    """As it was then: people and devices are renamed."""


SYSTEM: Final = Actor("system", "homeport", "Homeport")
"""Homeport by itself: nobody had asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One action. The log adds id, time and place in the chain."""

    actor: Actor
    team: TeamId | None
    """None when it concerns no team."""
    action: str
    """`thing.done`: `member.removed`."""
    target_kind: str
    target_id: str
    before: Mapping[str, Any] | None = None
    """What was changed, as it was; what JSON can express. No secrets: a hash of one, where it has to be told apart."""
    after: Mapping[str, Any] | None = None
    request_id: str = ""
    address: str = ""
    outcome: str = DONE


def actor_of(caller: Caller) -> Actor:
    """Who makes a request."""
    return Actor(caller.identity.kind, caller.identity.id, caller.identity.name)


def entry_of(
    caller: Caller,
    team: TeamId | None,
    action: str,
    target: tuple[str, str],
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    outcome: str = DONE,
) -> AuditEntry:
    """What a request did.

    Args:
        caller: of the request.
        team: that it concerns; None for none.
        action: `thing.done`.
        target: kind and id of what it was done to.
        before: what was changed, as it was.
        after: and as it is.
        outcome: how it ended.
    """
    return AuditEntry(
        actor=actor_of(caller),
        team=team,
        action=action,
        target_kind=target[0],
        target_id=target[1],
        before=before,
        after=after,
        request_id=caller.request_id,
        address=caller.address,
        outcome=outcome,
    )
