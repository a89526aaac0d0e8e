"""Signing in and out, in the order in which it happens.

    begin   -> the browser goes to the provider, with a sign-in under way in a cookie
    finish  <- it comes back with a code; state, browser and issuer are checked, the answer is spent once, the code is
               redeemed, the ID token checked; then one transaction writes user and session down
    sign_out, log_out (the provider says so), end_session: sessions end

The session that a browser had is ended when it signs in anew, and its new one has a new id: what somebody planted, or
saw before, is worth nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from api_server.auth.oidc import RelyingParty
from api_server.auth.oidc.errors import (
    CodeRefusedError,
    InvalidCallbackError,
    InvalidIdTokenError,
    InvalidLogoutTokenError,
)
from api_server.auth.oidc.requests import Tokens
from api_server.auth.signin.authenticator import SessionAuthenticator
from api_server.auth.signin.cookies import TRANSACTION_LIFETIME, Cookies, UnderWay, hash_session, new_session_secret
from api_server.auth.signin.errors import (
    CallbackReplayedError,
    LogoutTokenReplayedError,
    SignInNotConfiguredError,
    SignInSessionNotFoundError,
    UserDisabledError,
)
from api_server.auth.signin.interfaces import (
    LiveSession,
    NewSession,
    OfflineTokens,
    SessionRecord,
    SignInStore,
    UserRecord,
    Visit,
)
from api_server.db.errors import DatabaseError
from api_server.http.errors import ValidationFailedError
from common.clock import Clock
from common.errors import HomeportError
from common.logging import Logger, get_logger
from common.secret import Secret

__all__ = ["CALLBACK_PATH", "Redirect", "SignInService", "check_return_to"]

CALLBACK_PATH: Final = "/api/auth/callback"

_RETURN_TO = re.compile(r"/(?!/)[!-\[\]-~]{0,2047}", re.ASCII)
"""A path of this site: printable ASCII without a backslash, which browsers take for a slash, not beginning with two."""

_RECORDED = (CallbackReplayedError, CodeRefusedError, InvalidCallbackError, InvalidIdTokenError, UserDisabledError)
"""Refusals that are written into the audit log."""

_TIDY_INTERVAL = 600.0
"""Seconds between two times that what nobody can use is dropped."""


def check_return_to(text: str) -> str:
    """A path of this site to which a browser is sent after it has signed in.

    Raises:
        ValidationFailedError: it is none: it would be an open redirect.
    """
    if _RETURN_TO.fullmatch(text) is None:
        raise ValidationFailedError("query: return_to must be a path of this site, such as /devices?page=2")
    return text


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a browser goes, and which cookies it is given."""

    url: str
    cookies: tuple[str, ...] = ()


class SignInService:
    """People and their sessions.

    Args:
        party: the relying party; None when no provider is set.
        store: of users and sessions.
        cookies: reads and makes them.
        authenticator: told when something ends.
        clock: wall time.
        base_url: gives the origin of this API as browsers see it; it may be known only once we listen.
        fixed_base_url: whether that was set, and is not merely where we listen.
        idle: seconds without a request after which a session ends.
        lifetime: seconds after which it ends whatever happens.
        log: for what is refused.
    """

    def __init__(
        self,
        party: RelyingParty | None,
        store: SignInStore,
        cookies: Cookies,
        authenticator: SessionAuthenticator,
        clock: Clock,
        *,
        base_url: Callable[[], str],
        fixed_base_url: bool,
        idle: float,
        lifetime: float,
        log: Logger | None = None,
    ) -> None:
        self._party = party
        self._store = store
        self._cookies = cookies
        self._authenticator = authenticator
        self._clock = clock
        self._base_url = base_url
        self._fixed_base_url = fixed_base_url
        self._idle = idle
        self._lifetime = lifetime
        self._log = log if log is not None else get_logger(__name__)
        self._offline: OfflineTokens | None = None

    def keep_offline_tokens(self, offline: OfflineTokens) -> None:
        """Have the offline tokens that come with sign-ins kept there."""
        self._offline = offline

    def _configured(self) -> RelyingParty:
        if self._party is None:
            raise SignInNotConfiguredError("set oidc_issuer and oidc_client_id, and people can sign in")
        return self._party

    async def run(self) -> None:
        """Drop what nobody can use any more, now and then, for as long as the process lives."""
        while True:
            try:
                await self._store.forget(self._clock.wall())
            except DatabaseError as exc:
                self._log.warning("old sessions cannot be dropped", code=exc.code, detail=exc.detail)
            await asyncio.sleep(_TIDY_INTERVAL)

    # In

    async def begin(self, *, host: str, target: str, return_to: str, cookies: str) -> Redirect:
        """Send a browser to the provider.

        Args:
            host: that the browser named.
            target: path and query of its request.
            return_to: path of this site that it wants to see afterwards.
            cookies: of the request.

        Raises:
            ProviderUnavailableError: the provider does not answer.
            SignInNotConfiguredError: there is none.
            ValidationFailedError: `return_to` is no path of this site.
        """
        party = self._configured()
        check_return_to(return_to)
        base = self._base_url()
        if not self._fixed_base_url and host.lower() != base.partition("//")[2]:
            # `localhost` for 127.0.0.1: its cookies would not be there at the callback.
            return Redirect(base + target)
        url, transaction = await party.begin(base + CALLBACK_PATH)
        under_way = UnderWay(
            transaction=transaction,
            browser="",
            return_to=return_to,
            expires_at=self._clock.wall() + TRANSACTION_LIFETIME,
        )
        _, lines = self._cookies.set_under_way(under_way, self._cookies.read_browser(cookies))
        return Redirect(url, tuple(lines))

    async def finish(
        self,
        *,
        state: str | None,
        code: str | None,
        error: str | None,
        iss: str | None,
        cookies: str,
        visit: Visit,
    ) -> Redirect:
        """Sign a browser in that comes back from the provider.

        Args:
            state: and the other parameters of the provider's answer.
            code: the same.
            error: the same.
            iss: the same.
            cookies: of the request.
            visit: for the record.

        Raises:
            CallbackReplayedError: the answer was used before.
            InvalidCallbackError: it is not an answer to a sign-in of this browser.
            OidcError: the provider refuses, does not answer, or what it says does not hold.
            UserDisabledError: the person is locked out.
        """
        party = self._configured()
        under_way = None if state is None else self._cookies.read_under_way(cookies, state, self._clock.wall())
        if under_way is None or state is None:
            # Anybody can make a browser come here: a line in the log, none in the audit.
            raise InvalidCallbackError("this browser has no such sign-in under way; it may have taken too long")
        transaction = under_way.transaction
        try:
            redeemable = await party.code_of(transaction, state=state, code=code, error=error, iss=iss)
            spent = sha256(state.encode()).hexdigest()
            if not await self._store.spend("sign_in_state", spent, under_way.expires_at):
                raise CallbackReplayedError("this sign-in is finished already; begin anew at /api/auth/login")
            asked_at = self._clock.wall()
            person, tokens = await party.redeem(transaction, redeemable)
            secret, now = new_session_secret(), self._clock.wall()
            before = self._cookies.read_session(cookies)
            session = NewSession(
                secret_hash=hash_session(secret),
                replaces=None if before is None else hash_session(before),
                idle_seconds=int(self._idle),
                expires_at=now + self._lifetime,
            )
            signed_in = await self._store.sign_in(person, session, visit, now)
        except _RECORDED as exc:
            # Only for whoever had a sign-in under way: nobody fills the audit log from afar.
            self._log.warning("a sign-in is refused", code=exc.code, detail=exc.detail, address=visit.address)
            await self._store.refused(exc.code, visit)
            raise
        self._authenticator.forget()
        self._log.info("signed in", user=signed_in.user.id, session=signed_in.session, request_id=visit.request_id)
        await self._keep_offline_token(party, signed_in.user, tokens, asked_at, visit)
        lines = self._cookies.drop_under_way(state, self._cookies.read_browser(cookies))
        return Redirect(
            self._base_url() + under_way.return_to, (self._cookies.set_session(secret, self._lifetime), *lines)
        )

    async def _keep_offline_token(
        self, party: RelyingParty, user: UserRecord, tokens: Tokens, asked_at: float, visit: Visit
    ) -> None:
        """Keep it, if there is one and somebody wants it. That it cannot be kept keeps nobody from signing in."""
        if self._offline is None or not tokens.refresh_token:
            return
        lifetime = tokens.refresh_expires_in or 0.0
        try:
            await self._offline.keep(
                user,
                Secret(tokens.refresh_token),
                expires_at=asked_at + lifetime if lifetime > 0 else 0.0,
                scopes=party.scopes if tokens.scope is None else tuple(tokens.scope.split()),
                visit=visit,
            )
        except HomeportError as exc:
            self._log.warning("an offline token is not kept", user=user.id, code=exc.code, detail=exc.detail)

    # Out

    async def sign_out(self, cookies: str, visit: Visit) -> Redirect:
        """End the session that a request shows.

        Returns:
            Where the browser can sign out at the provider, too, with the cookies that take the session away.

        Raises:
            DatabaseError: the session cannot be ended.
            SignInSessionNotFoundError: the request shows none.
        """
        session = await self._own(cookies)
        await self._store.end_session(session.user, session.id, "signed_out", visit, self._clock.wall())
        self._authenticator.forget()
        after = self._base_url() + "/"
        elsewhere = None if self._party is None else await self._party.end_session_url(return_to=after)
        return Redirect(elsewhere if elsewhere is not None else after, (self._cookies.drop_session(),))

    async def log_out(self, token: str, visit: Visit) -> None:
        """End the sessions that a logout token names (back channel).

        Raises:
            InvalidLogoutTokenError: it does not hold.
            LogoutTokenReplayedError: it was used before.
            ProviderUnavailableError: the provider's keys cannot be had.
        """
        party = self._configured()
        try:
            claims = await party.logout_of(token)
            ended = await self._store.log_out(claims, visit, self._clock.wall())
        except (InvalidLogoutTokenError, LogoutTokenReplayedError) as exc:
            self._log.warning("a logout token is refused", code=exc.code, detail=exc.detail, address=visit.address)
            raise
        self._authenticator.forget()
        self._log.info("the provider signed somebody out", sessions=ended, request_id=visit.request_id)

    # Sessions of one's own

    async def sessions(self, cookies: str) -> list[SessionRecord]:
        """The sessions of whoever shows one.

        Raises:
            SignInSessionNotFoundError: the request shows none.
        """
        own = await self._own(cookies)
        found = await self._store.sessions_of(own.user.id, self._clock.wall())
        return [_marked(each, own.id) for each in found]

    async def end_session(self, cookies: str, session: str, visit: Visit) -> None:
        """End a session of one's own, the one that asks included.

        Raises:
            SignInSessionNotFoundError: there is none with that id.
        """
        own = await self._own(cookies)
        if not await self._store.end_session(own.user, session, "ended_by_user", visit, self._clock.wall()):
            raise SignInSessionNotFoundError("you have no such session, or it has ended")
        self._authenticator.forget()

    async def _own(self, cookies: str) -> LiveSession:
        own = await self._authenticator.session_of(cookies)
        if own is None:
            raise SignInSessionNotFoundError("only people have sessions; you came with a token")
        return own


def _marked(record: SessionRecord, current: str) -> SessionRecord:
    return msgspec.structs.replace(record, current=record.id == current)
