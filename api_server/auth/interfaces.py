"""Who calls, and what they may do: the seam between the API and gateway on one side and any source of identity on the
other.

    request ── credentials ──> Authenticator ──> Identity ──> identity.decide(action, team) ──> Decision
               (what was shown)  (who it is)                  (may it?)

Everything that serves a request depends on this module alone. Today the one source is the administration token
(`admin_token`); people, teams and API tokens come as other authenticators behind the same interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Final, Literal, Protocol

import msgspec

from common.ids import TeamId
from common.secret import Secret

__all__ = ["INSTALLATION_ACTIONS", "PENDING", "Action", "Authenticator", "Decision", "Identity", "Pending"]


class Action(StrEnum):
    """What an identity can be allowed to do. Written `resource.action`, as scopes will be."""

    SESSIONS_READ = "sessions.read"
    SESSIONS_CLOSE = "sessions.close"
    DEVICES_ISSUE_TOKEN = "devices.issue_token"  # noqa: S105
    DEVICES_REVOKE_TOKEN = "devices.revoke_token"  # noqa: S105
    EVENTS_READ = "events.read"
    GATEWAY_CALL = "gateway.call"
    METRICS_READ = "metrics.read"


INSTALLATION_ACTIONS: Final = frozenset({Action.METRICS_READ})
"""Actions that concern the whole installation, and no team."""


class Decision(Enum):
    """Why an action is allowed or not; each maps to one answer."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    """403: the identity is of the team, and may not do this there."""
    UNKNOWN_TEAM = "unknown_team"
    """404, as if nothing existed: the identity has nothing to do with the team."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes a request, and everything that they may do, so that a decision never waits."""

    kind: Literal["token", "user", "service"]
    id: str
    """Stable and unique within `kind`; safe to log."""
    name: str
    """For people."""
    teams: Mapping[TeamId, frozenset[Action]]
    """The teams that the identity belongs to, and what it may do in each."""
    installation: frozenset[Action] = frozenset()
    """What it may do that concerns no team."""

    def decide(self, action: Action, team: TeamId | None) -> Decision:
        """Whether the identity may do `action` in `team`; None for an action that concerns no team."""
        if team is None:
            return Decision.ALLOWED if action in self.installation else Decision.FORBIDDEN
        allowed = self.teams.get(team)
        if allowed is None:
            return Decision.UNKNOWN_TEAM
        return Decision.ALLOWED if action in allowed else Decision.FORBIDDEN

    def may(self, action: Action, team: TeamId | None) -> bool:
        """Whether `decide` says `ALLOWED`."""
        return self.decide(action, team) is Decision.ALLOWED


class Pending(Enum):
    """The type of `PENDING`."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING
"""`authenticate_nowait` cannot tell without waiting: await `authenticate`."""


class Authenticator(Protocol):
    """A source of identity."""

    def authenticate_nowait(self, credential: Secret, *, address: str) -> Identity | Pending | None:
        """Who shows `credential`, if that is known without waiting; never blocks.

        Args:
            credential: as `credentials.presented` found it.
            address: of the client, without the port: wrong credentials are counted against it.

        Returns:
            The identity; `PENDING` when only `authenticate` can tell; None when the credential is nobody's.

        Raises:
            TooManyAttemptsError: it is nobody's, and too many from this address were; with `retry_after`.
        """
        ...

    async def authenticate(self, credential: Secret, *, address: str) -> Identity | None:
        """Who shows `credential`; None when it is nobody's.

        Raises:
            TooManyAttemptsError: it is nobody's, and too many from this address were; with `retry_after`.
        """
        ...
