"""What other domains ask of the broker: the gateway, for a route whose credential is a brokered token."""

from __future__ import annotations

from typing import Protocol

from api_server.auth.interfaces import Pending
from common.ids import TeamId
from common.secret import Secret

__all__ = ["TokenSource"]


class TokenSource(Protocol):
    """Where tokens of providers are had."""

    def token_nowait(self, team: TeamId, realm: str, key: str) -> Secret | Pending:
        """The token, if it is in memory and holds; never blocks. `PENDING` when only `token` can tell."""
        ...

    async def token(self, team: TeamId, realm: str, key: str) -> Secret:
        """The token, fetched if need be.

        Raises:
            BrokerError, OutboundError, DatabaseError, CredentialError: it cannot be had. Whoever needed it has failed:
                nothing is sent without it.
        """
        ...

    async def refused(self, team: TeamId, realm: str, key: str, token: Secret) -> Secret:
        """A backend has answered 401 to `token`: another one, which may be tried once.

        It is fetched unless somebody has fetched one since, and not more often than the realm's flush interval allows.

        Raises:
            FlushTooSoonError: it was fetched a moment ago; the backend does not want it for another reason.
            BrokerError, OutboundError, DatabaseError, CredentialError: it cannot be had.
        """
        ...
