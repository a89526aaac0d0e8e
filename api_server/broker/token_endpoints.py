"""`/api/token`: the tokens of providers.

What is in memory is answered without the database, and without making anything that was made before.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.broker.cache import Entry
from api_server.broker.errors import (
    FlushTooSoonError,
    ProviderFailedError,
    ProviderPausedError,
    ProviderRefusedError,
    RealmNotFoundError,
    RealmSecretNotFoundError,
    RealmSecretUnboundError,
)
from api_server.broker.records import TokenKey
from api_server.broker.tokens import TokenBroker
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.browsers import CSRF_HEADER, has_csrf_header
from api_server.http.errors import CsrfHeaderMissingError
from api_server.http.routes import Caller, Route, TeamQuery
from common.clock import Clock
from common.crypto.errors import KeyMissingError, SealBrokenError

__all__ = ["TokenEndpoints"]


class TokenQuery(TeamQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which token."""

    realm: Annotated[str, Meta(description="Id of the realm.")]
    key: Annotated[str, Meta(description="Key of the secret.")]
    flush: Annotated[
        bool, Meta(description="Have it fetched anew, and do not hand the old one out again; needs a right of its own.")
    ] = False


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token of a provider."""

    token: str
    token_type: str
    expires_in: int | None
    """Milliseconds; null for one without an end."""
    expires_at: float | None
    """Seconds since the Unix epoch."""
    source: Literal["database", "upstream"]
    """`upstream` when the provider was asked just now."""


class TokenEndpoints:
    """Serves `/api/token`.

    Args:
        broker: hands tokens out.
        clock: wall time.
    """

    def __init__(self, broker: TokenBroker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(
                method="GET",
                path="/api/token",
                handler=self.get_token,
                action=Action.REALM_TOKENS_GET,
                answer=Token,
                errors=(
                    RealmNotFoundError,
                    RealmSecretNotFoundError,
                    RealmSecretUnboundError,
                    ProviderFailedError,
                    ProviderRefusedError,
                    ProviderPausedError,
                    FlushTooSoonError,
                    CsrfHeaderMissingError,
                    KeyMissingError,
                    SealBrokenError,
                    DatabaseUnavailableError,
                ),
            )
        ]

    async def get_token(self, caller: Caller, query: TokenQuery, request: web.Request) -> web.Response:
        """Get a token of a provider.

        It is fetched once, whoever asks, kept, and refreshed before its end; the old one is handed out meanwhile.
        """
        key = TokenKey(caller.team, query.realm, query.key)
        if query.flush:
            if not caller.identity.may(Action.REALM_TOKENS_FLUSH, caller.team):
                raise ForbiddenError(f"{caller.identity.name!r} may not do {Action.REALM_TOKENS_FLUSH.value}")
            if caller.identity.kind == "user" and not has_csrf_header(request.headers):
                # It changes something, though it is a GET: no other site shall make a browser do it.
                raise CsrfHeaderMissingError(f"send {CSRF_HEADER}: 1")
            issued = await self._broker.flush(caller, key)
        else:
            entry = self._broker.entry_nowait(key.team, key.realm, key.key)
            if entry is not None:
                return web.Response(body=self._body(entry), content_type="application/json")
            issued = await self._broker.issue(key)
        body = self._body(issued.entry)
        if issued.source == "upstream":
            body = body.replace(b'"source":"database"', b'"source":"upstream"', 1)
        return web.Response(body=body, content_type="application/json")

    def _body(self, entry: Entry) -> bytes:
        if entry.expires_at is None:
            return entry.head + b"null}"
        return entry.head + b"%d}" % max(0, round((entry.expires_at - self._clock.wall()) * 1000))
