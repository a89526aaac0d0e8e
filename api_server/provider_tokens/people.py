"""Whose tokens a caller may have: a person their own, a program those of the person who made its token."""

from __future__ import annotations

from typing import Protocol

from api_server.auth.interfaces import Identity
from api_server.provider_tokens.errors import NobodyBehindTokenError

__all__ = ["PeopleBehind", "person_of"]


class PeopleBehind(Protocol):
    """Who made the tokens of programs."""

    async def user_behind(self, identity: Identity) -> str | None:
        """Id of the user in whose name a program acts; None when it acts for nobody.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...


def person_of(identity: Identity) -> str:
    """The id of the person who asks.

    Raises:
        NobodyBehindTokenError: it is none.
    """
    if identity.kind != "user":
        raise NobodyBehindTokenError("only a person can do that, in a browser: it is their consent")
    return identity.id
