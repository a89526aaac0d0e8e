"""Who a token stands for now: its scopes, met with what its issuer may do at this moment (T2).

issuer is a user            the role in the token's team; none, or locked out, or the team is deleted: nobody
issuer is administration    everything in the team, and in the installation
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from api_server.auth.interfaces import INSTALLATION_ACTIONS, Action, Identity
from api_server.db.database import Database
from api_server.teams.interfaces import Memberships
from api_server.teams.roles import actions_of, installation_actions_of
from api_server.tokens.errors import UnknownScopeError
from api_server.tokens.records import ADMINISTRATION, LiveToken
from api_server.tokens.scopes import Grant, grant_of
from api_server.tokens.store import TokenStore

__all__ = ["TokenVerifier"]

_ALL = frozenset(Action)


class TokenVerifier:
    """Looks into the database. Implements `api_server.auth.interfaces.Standing`.

    Args:
        database: of the tokens.
        memberships: what people may do.
    """

    def __init__(self, database: Database, memberships: Memberships) -> None:
        self._database = database
        self._memberships = memberships
        self._store = TokenStore()

    async def find(self, hashes: Sequence[str], now: float) -> tuple[LiveToken, Identity] | None:
        """The token that has one of `hashes`, and whom it stands for; None for nobody.

        Raises:
            DatabaseError: it cannot be told.
        """
        token = await self._database.read(lambda tx: self._store.find(tx, hashes, now))
        if token is None:
            return None
        identity = await self._identify(token)
        return None if identity is None else (token, identity)

    async def identities(self, ids: Collection[str], now: float) -> Mapping[str, Identity]:
        """Whom those of the tokens stand for that still stand for somebody, by id.

        Raises:
            DatabaseError: it cannot be told.
        """
        found = await self._database.read(lambda tx: self._store.live(tx, ids, now))
        identities = [await self._identify(token) for token in found]
        return {identity.id: identity for identity in identities if identity is not None}

    async def _identify(self, token: LiveToken) -> Identity | None:
        actions = _ALL
        if token.issuer.kind != ADMINISTRATION:
            role = await self._memberships.role_in(token.issuer.id, token.team)
            if role is None:
                return None
            actions = actions_of(role)
        grant = _grant(token)
        installation = grant.actions & INSTALLATION_ACTIONS
        if installation and token.issuer.kind != ADMINISTRATION:
            roles = await self._memberships.teams_of(token.issuer.id)
            installation &= installation_actions_of(roles, await self._memberships.first_team())
        return Identity(
            kind="token",
            id=token.id,
            name=token.name,
            teams={token.team: (grant.actions & actions) - INSTALLATION_ACTIONS},
            installation=installation,
            reach=grant.reach,
        )


def _grant(token: LiveToken) -> Grant:
    """What the scopes of a token say here: one that only a newer version knows says nothing."""
    known = []
    for scope in token.scopes:
        try:
            grant_of((scope,))
        except UnknownScopeError:
            continue
        known.append(scope)
    return grant_of(known)
