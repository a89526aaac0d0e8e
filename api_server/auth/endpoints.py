"""`/api/auth/me`: who the API takes the caller for."""

from __future__ import annotations

from typing import Literal

import msgspec

from api_server.auth.interfaces import Action
from api_server.http.routes import Caller, Route
from common.ids import TeamId

__all__ = ["AuthEndpoints", "Me"]


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The caller."""

    kind: Literal["token", "user", "service"]
    id: str
    """Stable and unique within `kind`."""
    name: str
    """For people."""
    teams: dict[TeamId, list[Action]]
    """The caller's teams, and what it may do in each."""
    installation: list[Action]
    """What the caller may do that concerns no team."""


class AuthEndpoints:
    """Serves `/api/auth`."""

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [Route(method="GET", path="/api/auth/me", handler=self.show_identity)]

    async def show_identity(self, caller: Caller) -> Me:
        """Show who you are to the API, and what you may do."""
        identity = caller.identity
        return Me(
            kind=identity.kind,
            id=identity.id,
            name=identity.name,
            teams={team: sorted(actions) for team, actions in sorted(identity.teams.items())},
            installation=sorted(identity.installation),
        )
