"""Signing in on pages that the gateway serves, with the session that a person has at the console.

What goes through the browser, each signed with a key of its own purpose:

    nonce     a cookie at the gateway, random; its hash goes to the console as `state`, and comes back in the ticket
    ticket    in a URL: session, place, page, state; 30 seconds, once, in the browser that has the nonce
    cookie    at the gateway: session and place; good as long as the session is

So a ticket that leaks is of no use to whoever has no nonce for it, and nobody can be signed in as somebody else by a
link. The cookie holds no secret of the session at the console: it names it, and what it names is looked up twice a
second at most. Signing out, at the console or the provider, a user who is locked out, a role that is taken away: each
ends it within a second.

Nothing of this is an open redirect: the console sends a browser to the gateway's own origin alone, the gateway to the
page that the ticket names.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from itsdangerous import BadSignature, Signer

from api_server.auth.browsers import FINISH_PATH, GATEWAY_COOKIE, BrowserRedirect, Places
from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import PENDING, Decision, Identity, Pending
from api_server.auth.signin.authenticator import SessionAuthenticator
from api_server.auth.signin.cookie_keys import CookieKeys, Purpose
from api_server.auth.signin.cookies import cookie_values
from api_server.auth.signin.errors import NothingToSignInToError, SignInNotConfiguredError, TicketRefusedError
from api_server.auth.signin.interfaces import SignInStore
from api_server.http.errors import ValidationFailedError
from api_server.http.origins import origin_of
from common.clock import Clock
from common.ids import new_id

__all__ = ["GATEWAY_PATH", "GatewaySignIn", "Onward"]

GATEWAY_PATH: Final = "/api/auth/gateway"
"""Of the console's origin: where the gateway sends browsers."""

_LOGIN_PATH: Final = "/api/auth/login"

_TICKET_LIFETIME: Final = 30.0
"""Seconds between two redirects; a person has nothing to do in between."""

_NONCE_LIFETIME: Final = 600
"""Seconds that somebody may take to sign in at the provider on the way."""

_MAX_RETURN: Final = 512
"""Characters of a page's URL that come back; of a longer one the path alone does, or the first page of the place.
Encoded twice it has to fit in what a sign-in under way carries."""

_MAX_TICKET: Final = 4096

_MAX_TRIED: Final = 4
"""Cookies of one name that are looked at: one for each path that matches, if somebody planted some."""

T = TypeVar("T", bound=msgspec.Struct)


class _Ticket(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    session: str
    realm: str
    path: str
    return_to: str
    state: str
    expires_at: float


class _Pass(msgspec.Struct, frozen=True, kw_only=True):
    session: str
    realm: str


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a browser goes from the console."""

    url: str
    signed_in: bool
    """Whether it takes a ticket along; else it has to sign in first."""


class GatewaySignIn:
    """Signs people in at the gateway. It is both the console's end and the gateway's: `BrowserSignIn`.

    Args:
        configured: whether people can sign in at all.
        keys: sign; every process has the same.
        store: knows what was spent.
        sessions: knows who has a session at the console.
        clock: wall time.
        console: gives the origin of the API as browsers see it.
        gateway: gives the base URL of the gateway as browsers see it.
        fixed: whether that was set, and is not merely where we listen.
        domain: parent of the hosts that name a service; None for none.
        own_hosts: people sign in on those hosts alone, whose pages share no origin.
    """

    def __init__(
        self,
        *,
        configured: bool,
        keys: CookieKeys,
        store: SignInStore,
        sessions: SessionAuthenticator,
        clock: Clock,
        console: Callable[[], str],
        gateway: Callable[[], str],
        fixed: bool,
        domain: str | None,
        own_hosts: bool = False,
    ) -> None:
        self._configured = configured
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._console = console
        self._gateway = gateway
        self._fixed = fixed
        self._own_hosts = own_hosts
        self._suffix = None if domain is None else "." + domain.lower()
        self._tickets = _signer(keys, "gateway_ticket")
        self._passes = _signer(keys, "gateway_session")

    # At the console

    async def onward(self, places: Places, *, return_to: str, state: str, cookies: str) -> Onward:
        """Where a browser goes on that wants in at the gateway.

        Args:
            places: of the gateway.
            return_to: the page's URL.
            state: hash of the browser's nonce.
            cookies: of this request.

        Raises:
            DatabaseError: it cannot be told who asks.
            ForbiddenError: the person may not call services there.
            NothingToSignInToError: there is nothing, or it is of a team that the person has nothing to do with.
            SignInNotConfiguredError: nobody can sign in.
            ValidationFailedError: `return_to` is no page of the gateway.
        """
        if not self._configured:
            raise SignInNotConfiguredError("set oidc_issuer and oidc_client_id, and people can sign in")
        host, path = self._split(return_to)
        found = await self._sessions.find(cookies)
        if found is None:
            here = (
                f"{GATEWAY_PATH}?{urlencode({'return_to': return_to, 'state': state, 'by': 'page'}, quote_via=quote)}"
            )
            return Onward(f"{self._console()}{_LOGIN_PATH}?{urlencode({'return_to': here})}", signed_in=False)
        session, identity = found
        place = places.find(host, path)
        decision = Decision.UNKNOWN_TEAM if place is None else place.decide(identity)
        if place is None or decision is Decision.UNKNOWN_TEAM:
            raise NothingToSignInToError("nothing is served there, or nothing of a team of yours")
        if decision is Decision.FORBIDDEN:
            raise ForbiddenError(f"you may not call this service of the team {place.team}")
        ticket = _Ticket(
            id=new_id("gtk"),
            session=session.id,
            realm=place.realm,
            path=place.path,
            return_to=return_to,
            state=state,
            expires_at=self._clock.wall() + _TICKET_LIFETIME,
        )
        parts = urlsplit(return_to)
        back = f"{parts.scheme}://{parts.netloc}{FINISH_PATH}?ticket={_sign(self._tickets, ticket)}"
        return Onward(back, signed_in=True)

    def _split(self, url: str) -> tuple[str, str]:
        """Host and path of a page of the gateway.

        Raises:
            ValidationFailedError: it is none: it would be an open redirect.
        """
        refused = ValidationFailedError("query: return_to must be a URL of the gateway")
        if not url.isascii() or not url.isprintable() or any(each in url for each in ' \\#"<>'):
            raise refused
        try:
            parts = urlsplit(url)
            origin = origin_of(url)
        except ValueError:
            raise refused from None
        if "@" in parts.netloc or not url.startswith(origin + "/") or not self._is_ours(origin):
            raise refused
        return parts.netloc, parts.path

    def _is_ours(self, origin: str) -> bool:
        """Whether an origin is the gateway's, or that of a service's own host."""
        own = urlsplit(origin_of(self._gateway()))
        other = urlsplit(origin)
        if (own.scheme, own.port) != (other.scheme, other.port):
            return False
        name = other.hostname or ""
        if self._suffix is not None and name.endswith(self._suffix):
            return True
        return name == own.hostname and not self._own_hosts

    # At the gateway

    def begin(self, *, host: str, target: str, root: str, realm: str) -> BrowserRedirect | None:
        own = origin_of(self._gateway())
        scheme, _, authority = own.partition("://")
        origin = own
        if self._suffix is not None and host.lower().partition(":")[0].endswith(self._suffix):
            origin = f"{scheme}://{host.lower()}"
        elif self._own_hosts:
            return None
        elif not self._fixed and host.lower() != authority:
            # `localhost` for 127.0.0.1: the nonce would not be there when the browser comes back.
            return BrowserRedirect(own + target)
        nonce = secrets.token_urlsafe(16)
        choices = (origin + target, origin + target.partition("?")[0], origin + root)
        return_to = next((each for each in choices if len(each) <= _MAX_RETURN), choices[-1])
        query = urlencode({"return_to": return_to, "state": _state(nonce)}, quote_via=quote)
        cookie = self._cookie(f"signin_{_digest(realm)}", nonce, FINISH_PATH, _NONCE_LIFETIME)
        return BrowserRedirect(f"{self._console()}{GATEWAY_PATH}?{query}", (cookie,))

    async def finish(self, *, ticket: str, cookies: str) -> BrowserRedirect:
        opened = _open(self._tickets, ticket, _Ticket) if len(ticket) <= _MAX_TICKET else None
        if opened is None or opened.expires_at <= self._clock.wall():
            raise TicketRefusedError("open the page again: this way in is not good, or not any more")
        name = f"signin_{_digest(opened.realm)}"
        nonces = cookie_values(cookies, self._name(name, FINISH_PATH))[:_MAX_TRIED]
        if not any(hmac.compare_digest(_state(nonce), opened.state) for nonce in nonces):
            raise TicketRefusedError("open the page again: another browser began this, or yours takes no cookies")
        if not await self._store.spend("gateway_ticket", opened.id, opened.expires_at):
            raise TicketRefusedError("open the page again: this way in was used before")
        if await self._sessions.identity_of(opened.session) is None:
            raise TicketRefusedError("open the page again: you are not signed in any more")
        granted = _sign(self._passes, _Pass(session=opened.session, realm=opened.realm))
        return BrowserRedirect(
            opened.return_to,
            (
                self._cookie(_digest(opened.realm), granted, opened.path, None),
                self._cookie(name, "", FINISH_PATH, 0),
            ),
        )

    def authenticate_nowait(self, cookies: str, realm: str) -> Identity | Pending | None:
        sessions = self._shown(cookies, realm)
        if len(sessions) != 1:
            return PENDING if sessions else None
        identity = self._sessions.identity_of_nowait(sessions[0])
        return PENDING if identity is None else identity

    async def authenticate(self, cookies: str, realm: str) -> Identity | None:
        for session in self._shown(cookies, realm):
            identity = await self._sessions.identity_of(session)
            if identity is not None:
                return identity
        return None

    def _shown(self, cookies: str, realm: str) -> list[str]:
        """The sessions that cookies name, for a place."""
        digest = _digest(realm)
        names = {self._name(digest, path) for path in ("/", "/d")}
        values = [value for name in names for value in cookie_values(cookies, name)]
        opened = (_open(self._passes, value, _Pass) for value in values[:_MAX_TRIED])
        return list({each.session: None for each in opened if each is not None and each.realm == realm})

    # Cookies

    def _name(self, name: str, path: str) -> str:
        """A cookie of that name; `__Host-` keeps a sibling host from planting one, where the path allows it (draft RFC
        6265bis, section 4.1.3).
        """
        if not self._gateway().startswith("https:"):
            return GATEWAY_COOKIE + name
        return ("__Host-" if path == "/" else "__Secure-") + GATEWAY_COOKIE + name

    def _cookie(self, name: str, value: str, path: str, max_age: int | None) -> str:
        parts = (
            f"{self._name(name, path)}={value}",
            f"Path={path}",
            None if max_age is None else f"Max-Age={max_age}",
            "Secure" if self._gateway().startswith("https:") else None,
            "HttpOnly",
            "SameSite=Lax",
        )
        return "; ".join(part for part in parts if part is not None)


@lru_cache(maxsize=4096)
def _digest(realm: str) -> str:
    return sha256(realm.encode()).hexdigest()[:16]


def _state(nonce: str) -> str:
    return sha256(b"homeport gateway sign-in " + nonce.encode()).hexdigest()


def _signer(keys: CookieKeys, purpose: Purpose) -> Signer:
    # itsdangerous wants the newest last, and would take SHA-1. The keys are derived already.
    return Signer(
        list(reversed(keys.derive(purpose))),
        salt=f"homeport {purpose}",
        digest_method=sha256,
        key_derivation="none",
    )


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unbase64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _sign(signer: Signer, note: msgspec.Struct) -> str:
    return signer.sign(_base64(msgspec.msgpack.encode(note))).decode("ascii")


def _open(signer: Signer, text: str, kind: type[T]) -> T | None:
    """What a note says that one of ours signed; None for anything else."""
    try:
        return msgspec.msgpack.decode(_unbase64(signer.unsign(text)), type=kind)
    except (BadSignature, UnicodeError, ValueError, msgspec.MsgspecError):
        return None
