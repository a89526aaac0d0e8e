"""The three cookies of a browser, as values and as header lines. No I/O.

    on TLS                          on loopback without     path       what
    __Host-homeport_session         homeport_session        /          the session's id, signed
    __Host-homeport_browser         homeport_browser        /          which browser this is, while it signs in
    __Secure-homeport_signin_<s>    homeport_signin_<s>     callback   one sign-in, encrypted; <s> names its state

All are HttpOnly and SameSite=Lax: Lax, because the provider sends the browser back by a navigation from its own site.

A site beside ours, `evil.example.org` next to `homeport.example.org`, can set cookies for the common domain, and so put
its own sign-in under way into somebody's browser to sign them in as itself. It cannot set a `__Host-` cookie (draft
RFC 6265bis, section 4.1.3.2). That is why a sign-in is bound to the browser cookie, whose value is within what is
encrypted. The browser cookie also lists the sign-ins under way, which the login path does not see otherwise: beyond
five the oldest is dropped.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import msgspec
from itsdangerous import BadSignature, Signer

from api_server.auth.oidc import Transaction
from api_server.auth.signin.cookie_keys import CookieKeys
from api_server.auth.signin.sealed_values import SealedValues
from common.secret import Secret

__all__ = [
    "MAX_UNDER_WAY",
    "TRANSACTION_LIFETIME",
    "Browser",
    "Cookies",
    "UnderWay",
    "cookie_line",
    "cookie_values",
    "hash_session",
    "name_of_state",
    "new_session_secret",
]

MAX_UNDER_WAY = 5
"""Sign-ins that a browser may have under way."""

TRANSACTION_LIFETIME = 300.0
"""Seconds that somebody may take at the provider."""

_MAX_HEADER = 32 * 1024
"""Bytes of all cookies that are looked at; what is beyond is not ours."""
_BROWSER = re.compile(r"[0-9a-f]{32}(?:\.[0-9a-f]{16}){0,5}", re.ASCII)
_SESSION_SECRET = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def cookie_values(header: str, name: str) -> list[str]:
    """The values of every cookie of that name in a `Cookie` header (RFC 6265 section 4.2.1). More than one means that
    somebody planted one: for another path or domain, since a browser keeps one for each.
    """
    if len(header) > _MAX_HEADER:
        return []
    found = []
    for pair in header.split(";"):
        key, equals, value = pair.strip(" \t").partition("=")
        if equals and key == name:
            found.append(value)
    return found


def new_session_secret() -> Secret:
    """A fresh session id: 256 random bits, base64url."""
    return Secret(secrets.token_urlsafe(32))


def hash_session(secret: Secret) -> str:
    """What is stored of a session id. It is random, so that a plain hash keeps it."""
    return sha256(secret.reveal().encode()).hexdigest()


class UnderWay(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in under way, as the transaction cookie keeps it."""

    transaction: Transaction
    browser: str
    """The id in the browser cookie."""
    return_to: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Browser:
    """The browser cookie: who it is, and which sign-ins it has under way, oldest first."""

    id: str
    under_way: tuple[str, ...] = ()

    @classmethod
    def read(cls, value: str) -> Browser | None:
        """What the cookie says; None when it is none of ours."""
        if _BROWSER.fullmatch(value) is None:
            return None
        first, *others = value.split(".")
        return cls(first, tuple(others))

    def __str__(self) -> str:
        return ".".join((self.id, *self.under_way))


class Cookies:
    """Makes and reads them.

    Args:
        keys: sign and encrypt.
        secure: whether browsers come by TLS.
        callback_path: to which transaction cookies belong.
    """

    def __init__(self, keys: CookieKeys, *, secure: bool, callback_path: str) -> None:
        self._secure = secure
        self._callback_path = callback_path
        self.session_name = "__Host-homeport_session" if secure else "homeport_session"
        self.browser_name = "__Host-homeport_browser" if secure else "homeport_browser"
        self._transaction_prefix = ("__Secure-" if secure else "") + "homeport_signin_"
        # itsdangerous wants the newest last, and would take SHA-1. The keys are derived already.
        self._signer = Signer(
            list(reversed(keys.derive("session"))),
            salt=b"homeport session",
            digest_method=hashlib.sha256,
            key_derivation="none",
        )
        self._csrf_keys = keys.derive("csrf")
        self._transactions = SealedValues(keys.derive("transaction"), UnderWay)

    # The session

    def read_session(self, header: str) -> Secret | None:
        """The session id that a request shows; None when it shows none of ours, or two."""
        values = cookie_values(header, self.session_name)
        if len(values) != 1 or len(values[0]) > 256:
            return None
        try:
            secret = self._signer.unsign(values[0]).decode("ascii")
        except (BadSignature, UnicodeError):
            return None
        return Secret(secret) if _SESSION_SECRET.fullmatch(secret) else None

    def has_session(self, header: str) -> bool:
        """Whether a request shows a session cookie at all, good or bad."""
        return bool(cookie_values(header, self.session_name))

    def set_session(self, secret: Secret, lifetime: float) -> str:
        """The header line that gives a browser its session.

        Args:
            secret: the id.
            lifetime: seconds until it ends whatever happens.
        """
        value = self._signer.sign(secret.reveal()).decode()
        return self._line(self.session_name, value, "/", int(lifetime))

    def drop_session(self) -> str:
        """The header line that takes it away."""
        return self._line(self.session_name, "", "/", 0)

    def csrf_token(self, header: str) -> str | None:
        """What a form of this site carries to show that it is one; None without a session.

        It is bound to the session, so that nobody can use what their own session gives them against another.
        """
        secret = self.read_session(header)
        return None if secret is None else _csrf_token(self._csrf_keys[0], secret)

    def csrf_token_holds(self, header: str, token: str) -> bool:
        """Whether `token` is one for the session that a request shows."""
        secret = self.read_session(header)
        if secret is None or not token.isascii():
            return False
        return any(hmac.compare_digest(_csrf_token(key, secret), token) for key in self._csrf_keys)

    # The browser, and its sign-ins under way

    def read_browser(self, header: str) -> Browser | None:
        """The browser cookie of a request; None when there is none of ours, or two."""
        values = cookie_values(header, self.browser_name)
        return Browser.read(values[0]) if len(values) == 1 else None

    def set_under_way(self, under_way: UnderWay, browser: Browser | None) -> tuple[UnderWay, list[str]]:
        """The header lines that give a browser a sign-in to bring back.

        Args:
            under_way: the sign-in; its `browser` is set here.
            browser: the cookie that the request showed.

        Returns:
            The sign-in as it is kept, and the lines.
        """
        browser = browser if browser is not None else Browser(secrets.token_hex(16))
        under_way = msgspec.structs.replace(under_way, browser=browser.id)
        name = name_of_state(under_way.transaction.state)
        listed = (*(each for each in browser.under_way if each != name), name)
        dropped, kept = listed[:-MAX_UNDER_WAY], listed[-MAX_UNDER_WAY:]
        lines = [
            self._line(self.browser_name, str(Browser(browser.id, kept)), "/", None),
            self._transaction_line(name, self._transactions.seal(name, under_way), int(TRANSACTION_LIFETIME)),
        ]
        lines += [self._transaction_line(each, "", 0) for each in dropped]
        return under_way, lines

    def read_under_way(self, header: str, state: str, now: float) -> UnderWay | None:
        """The sign-in with that state which this browser has under way; None when it has none.

        Args:
            header: the request's cookies.
            state: as the provider brought it back.
            now: seconds since the epoch.
        """
        browser = self.read_browser(header)
        name = name_of_state(state)
        if browser is None:
            return None
        for value in cookie_values(header, self._transaction_prefix + name):
            opened = self._transactions.open(name, value)
            if (
                opened is not None
                and opened.expires_at > now
                and hmac.compare_digest(opened.browser, browser.id)
                and hmac.compare_digest(opened.transaction.state.encode(), state.encode())
            ):
                return opened
        return None

    def drop_under_way(self, state: str, browser: Browser | None) -> list[str]:
        """The header lines that take a sign-in away."""
        name = name_of_state(state)
        lines = [self._transaction_line(name, "", 0)]
        if browser is not None:
            kept = tuple(each for each in browser.under_way if each != name)
            lines.append(self._line(self.browser_name, str(Browser(browser.id, kept)), "/", None))
        return lines

    def _transaction_line(self, name: str, value: str, max_age: int) -> str:
        return self._line(self._transaction_prefix + name, value, self._callback_path, max_age)

    def _line(self, name: str, value: str, path: str, max_age: int | None) -> str:
        return cookie_line(name, value, path=path, max_age=max_age, secure=self._secure)


def cookie_line(name: str, value: str, *, path: str, max_age: int | None, secure: bool) -> str:
    """A header line that sets a cookie.

    Args:
        name: of the cookie.
        value: of the cookie.
        path: that it is for.
        max_age: seconds; 0 takes it away, None is for as long as the browser runs.
        secure: whether browsers come by TLS.
    """
    parts: Sequence[str | None] = (
        f"{name}={value}",
        f"Path={path}",
        None if max_age is None else f"Max-Age={max_age}",
        "Secure" if secure else None,
        "HttpOnly",
        "SameSite=Lax",
    )
    return "; ".join(part for part in parts if part is not None)


def name_of_state(state: str) -> str:
    """What the cookie of a transaction is called after its state."""
    return sha256(state.encode()).hexdigest()[:16]


def _csrf_token(key: bytes, session: Secret) -> str:
    return hmac.new(key, session.reveal().encode(), sha256).hexdigest()
