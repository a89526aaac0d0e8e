"""What the inspector needs of others."""

from __future__ import annotations

from typing import Protocol

from api_server.auth.interfaces import Identity
from api_server.gateway.inspection import Recording
from api_server.routing.records import StoredRoute
from common.ids import TeamId

__all__ = ["Repeater", "RouteBook"]


class RouteBook(Protocol):
    """Knows the routes."""

    async def show(self, team: TeamId, route: str) -> StoredRoute:
        """A route of a team, by id or name.

        Raises:
            RouteNotFoundError: it has none.
        """
        ...


class Repeater(Protocol):
    """Sends requests again: the gateway."""

    async def replay(
        self, identity: Identity, *, address: str, route_id: str, request: str, head: bytes, body: bytes
    ) -> Recording:
        """Send a request again; returns once it is answered, or has failed.

        Raises:
            HomeportError: it is not sent.
        """
        ...
