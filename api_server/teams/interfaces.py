"""What other domains ask of the teams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from api_server.teams.roles import Role
from common.ids import TeamId

__all__ = ["Memberships"]


class Memberships(Protocol):
    """Who belongs where."""

    async def teams_of(self, user: str) -> Mapping[TeamId, Role]:
        """The teams of a user, and the role in each; none for a user who is not known.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...
