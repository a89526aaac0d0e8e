"""Connecting, in the order in which it happens.

    begin    the browser goes to the provider, with the connection under way in a cookie; nothing is kept here
    finish   it comes back with a code; cookie, person, state and issuer are checked, the answer is spent once, the code
             is redeemed; then one transaction keeps the grant, with a line in the audit log

A request that another site has a browser make begins nothing: many providers do not ask a person a second time, so
that a link alone would connect them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import REFUSED, entry_of
from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.auth.signin.cookies import TRANSACTION_LIFETIME
from api_server.auth.signin.service import check_return_to
from api_server.changes.interfaces import Change, ChangeLog
from api_server.custody.errors import PrimaryBehindError
from api_server.db.database import Database
from api_server.http.errors import CrossSiteRequestError
from api_server.http.routes import Caller
from api_server.provider_tokens.connect.cookies import PATH, ConnectCookies, Connecting
from api_server.provider_tokens.connect.once import spend_state
from api_server.provider_tokens.errors import (
    ConnectCallbackReplayedError,
    ConnectCodeRefusedError,
    InvalidConnectCallbackError,
    ProviderRefusesClientError,
)
from api_server.provider_tokens.grants.obituaries import change_of
from api_server.provider_tokens.grants.records import GrantKey
from api_server.provider_tokens.grants.tokens import TokenManager
from api_server.provider_tokens.people import person_of
from api_server.provider_tokens.providers.catalogue import Providers
from common.clock import Clock
from common.ids import TeamId
from common.logging import Logger, get_logger

__all__ = ["Callback", "ConnectService", "Redirect"]

_RECORDED = (
    ConnectCallbackReplayedError,
    ConnectCodeRefusedError,
    InvalidConnectCallbackError,
    ProviderRefusesClientError,
)
"""Refusals that are written into the audit log."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a browser goes, and which cookies it is given."""

    url: str
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Callback:
    """What a provider's answer says."""

    state: str | None
    code: str | None
    error: str | None
    iss: str | None


class ConnectService:
    """Begins and finishes connections.

    Args:
        providers: that are set up.
        tokens: keeps what they give.
        cookies: of connections under way.
        database: where states are spent.
        audit: gets a line.
        changes: tells everybody.
        clock: wall time.
        base_url: gives the origin of this API as browsers see it.
        log: for what is refused.
    """

    def __init__(
        self,
        providers: Providers,
        tokens: TokenManager,
        cookies: ConnectCookies,
        database: Database,
        audit: AuditLog,
        changes: ChangeLog,
        clock: Clock,
        *,
        base_url: Callable[[], str],
        log: Logger | None = None,
    ) -> None:
        self._providers = providers
        self._tokens = tokens
        self._cookies = cookies
        self._database = database
        self._audit = audit
        self._changes = changes
        self._clock = clock
        self._base_url = base_url
        self._log = log if log is not None else get_logger(__name__)

    async def begin(
        self, caller: Caller, provider: str, *, return_to: str, cookies: str, fetch_site: str | None
    ) -> Redirect:
        """Send a browser to a provider.

        Args:
            caller: a person, who may connect in `caller.team`.
            provider: its name.
            return_to: path of this site that the browser is to see afterwards.
            cookies: of the request.
            fetch_site: `Sec-Fetch-Site` of the request; None where the browser does not say.

        Raises:
            CrossSiteRequestError: another site has the browser ask.
            NobodyBehindTokenError: the caller is no person.
            ProviderAwayError: the provider cannot be discovered.
            ProviderNotFoundError: there is none of that name.
            ValidationFailedError: `return_to` is no path of this site.
        """
        if fetch_site is not None and fetch_site not in ("same-origin", "none"):
            raise CrossSiteRequestError("a connection is begun by a link of this site, and by no other")
        user = person_of(caller.identity)
        check_return_to(return_to)
        client = self._providers.get(provider)
        url, transaction = await client.begin(f"{self._base_url()}{PATH}/{provider}/callback")
        now = self._clock.wall()
        connecting = Connecting(
            transaction=transaction,
            provider=provider,
            team=caller.team,
            user=user,
            return_to=return_to,
            expires_at=now + TRANSACTION_LIFETIME,
        )
        return Redirect(url, tuple(self._cookies.begin(cookies, connecting, now)))

    async def finish(self, caller: Caller, provider: str, callback: Callback, *, cookies: str) -> Redirect:
        """Keep what a provider grants to a browser that comes back from it.

        Raises:
            ConnectCallbackReplayedError: the answer was used before.
            ConnectCodeRefusedError: the provider does not take the code.
            ConsentRefusedError: it, or the person, says no.
            CustodyError: what it gives could not be kept, and nothing was asked of it; or, `PrimaryBehindError`, it is
                kept, and the primary of the records has not acknowledged it yet.
            ForbiddenError: the person may not connect in that team any more.
            InvalidConnectCallbackError: it is not an answer to a connection that this person began in this browser.
            ProviderAwayError: the provider does not answer.
            ProviderRefusesClientError: it does not take Homeport.
        """
        user = person_of(caller.identity)
        client = self._providers.get(provider)
        state, now = callback.state, self._clock.wall()
        under_way = None if state is None else self._cookies.read(cookies, provider=provider, state=state, now=now)
        if under_way is None or state is None or under_way.user != user:
            # Anybody can make a browser come here: a line in the log, none in the audit.
            raise InvalidConnectCallbackError("you have no such connection under way in this browser; begin anew")
        team = TeamId(under_way.team)
        if not caller.identity.may(Action.PROVIDER_TOKENS_CONNECT, team):
            raise ForbiddenError(f"{caller.identity.name!r} may not connect providers in that team any more")
        key = GrantKey(team, user, provider)
        transaction = under_way.transaction
        try:
            code = await client.code_of(
                transaction, state=state, code=callback.code, error=callback.error, iss=callback.iss
            )
            await self._tokens.ready()
            await spend_state(self._database, state, under_way.expires_at)
            asked_at = self._clock.wall()
            redeemed = await client.redeem(transaction, code)
        except _RECORDED as exc:
            self._log.warning("a connection is refused", provider=provider, code=exc.code, detail=exc.detail)
            await self._refused(caller, key, exc.code)
            raise
        said: list[Change] = []

        async def also(tx: AsyncConnection) -> None:
            said[:] = [await self._changes.record(tx, change_of(key, "provider_token.connected"))]
            given = redeemed.tokens
            after = {
                "provider": provider,
                "scopes": list(given.scopes if given.scopes is not None else client.scopes),
                "account": redeemed.account,
                "refreshable": given.refresh_token is not None,
            }
            target = (key.kind.value, key.record_id)
            await self._audit.record(tx, entry_of(caller, team, "provider_token.connected", target, after=after))

        try:
            await self._tokens.store_provider_tokens(
                key, redeemed.tokens, asked_at=asked_at, asked_for=client.scopes, account=redeemed.account, also=also
            )
        except PrimaryBehindError:
            await self._changes.announce(said)  # it is kept, and counts
            raise
        await self._changes.announce(said)
        return Redirect(self._base_url() + under_way.return_to, (self._cookies.drop(provider, state),))

    async def _refused(self, caller: Caller, key: GrantKey, code: str) -> None:
        target = (key.kind.value, key.record_id)
        entry = entry_of(caller, key.team, "provider_token.connected", target, after={"refusal": code}, outcome=REFUSED)
        await self._database.write(lambda tx: self._audit.record(tx, entry))
