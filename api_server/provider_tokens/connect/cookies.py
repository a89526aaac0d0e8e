"""The cookie of a connection under way, as a value and as header lines. No I/O.

    on TLS                           on loopback without      path                              what
    __Secure-homeport_connect_<s>    homeport_connect_<s>     /api/provider-tokens/{provider}   one connection

It is to a connection what the transaction cookie is to a sign-in (`api_server.auth.signin.cookies`): encrypted,
HttpOnly, SameSite=Lax, five minutes, named by its state so that several may be under way. A sibling site can plant one,
but only one of its own: the user and the team are within what is encrypted, and have to be those who come back.
"""

from __future__ import annotations

import hmac
from typing import Final

import msgspec

from api_server.auth.oidc import Transaction
from api_server.auth.signin.cookie_keys import CookieKeys
from api_server.auth.signin.cookies import TRANSACTION_LIFETIME, cookie_line, cookie_values, name_of_state
from api_server.auth.signin.sealed_values import SealedValues

__all__ = ["MAX_CONNECTING", "PATH", "ConnectCookies", "Connecting"]

PATH: Final = "/api/provider-tokens"

MAX_CONNECTING: Final = 5
"""Connections to one provider that a browser may have under way."""

_STATE_NAME = 16
"""Characters that `name_of_state` gives."""


class Connecting(msgspec.Struct, frozen=True, kw_only=True):
    """A connection under way, as the cookie keeps it."""

    transaction: Transaction
    provider: str
    team: str
    user: str
    return_to: str
    expires_at: float


class ConnectCookies:
    """Makes and reads them.

    Args:
        keys: of cookies; those for connections are derived.
        secure: whether browsers come by TLS.
    """

    def __init__(self, keys: CookieKeys, *, secure: bool) -> None:
        self._secure = secure
        self._prefix = ("__Secure-" if secure else "") + "homeport_connect_"
        self._sealed = SealedValues(keys.derive("connect"), Connecting)

    def begin(self, header: str, connecting: Connecting, now: float) -> list[str]:
        """The header lines that give a browser a connection to bring back; the oldest of too many goes.

        Args:
            header: the request's cookies.
            connecting: the connection.
            now: seconds since the epoch.
        """
        provider = connecting.provider
        name = name_of_state(connecting.transaction.state)
        others = sorted(
            (opened.expires_at, other)
            for other in self._names(header)
            if (opened := self._open(header, other)) is not None and opened.expires_at > now
        )
        surplus = max(len(others) - (MAX_CONNECTING - 1), 0)
        lines = [self._line(provider, name, self._sealed.seal(name, connecting), int(TRANSACTION_LIFETIME))]
        return lines + [self._line(provider, other, "", 0) for _, other in others[:surplus]]

    def read(self, header: str, *, provider: str, state: str, now: float) -> Connecting | None:
        """The connection with that state which this browser has under way; None when it has none."""
        opened = self._open(header, name_of_state(state))
        if opened is None or opened.expires_at <= now or opened.provider != provider:
            return None
        return opened if hmac.compare_digest(opened.transaction.state.encode(), state.encode()) else None

    def drop(self, provider: str, state: str) -> str:
        """The header line that takes a connection away."""
        return self._line(provider, name_of_state(state), "", 0)

    def _names(self, header: str) -> set[str]:
        pairs = (pair.strip(" \t").partition("=")[0] for pair in header.split(";"))
        found = {key.removeprefix(self._prefix) for key in pairs if key.startswith(self._prefix)}
        return {name for name in found if len(name) == _STATE_NAME}

    def _open(self, header: str, name: str) -> Connecting | None:
        for value in cookie_values(header, self._prefix + name):
            opened = self._sealed.open(name, value)
            if opened is not None:
                return opened
        return None

    def _line(self, provider: str, name: str, value: str, max_age: int) -> str:
        path = f"{PATH}/{provider}"
        return cookie_line(self._prefix + name, value, path=path, max_age=max_age, secure=self._secure)
