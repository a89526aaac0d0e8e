"""People's browsers on pages that the gateway serves: what the gateway asks of sign-in, and sign-in of the gateway.

    browser ──page──> gateway   nobody, and a person at a browser:   begin    ──> the console's origin, with a nonce
    console           BrowserSignIn.ticket: signed in, and allowed?           ──> back, with a ticket
    browser ─ticket─> gateway                                        finish   ──> the page, with a cookie for it alone
    browser ──page──> gateway   the cookie                           authenticate ──> Identity

The gateway's origin is not the console's: no cookie of the one is worth anything at the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from api_server.auth.interfaces import Decision, Identity, Pending
from common.ids import TeamId

__all__ = ["FINISH_PATH", "GATEWAY_COOKIE", "BrowserRedirect", "BrowserSignIn", "Place", "Places"]

FINISH_PATH: Final = "/.homeport/sign-in"
"""Where at the gateway a browser comes back with its ticket, on each of its hosts."""

GATEWAY_COOKIE: Final = "homeport_gateway_"
"""How the names of the gateway's cookies begin, behind the prefixes that browsers know."""


@dataclass(frozen=True, slots=True)
class BrowserRedirect:
    """Where a browser is sent, and what it is given."""

    url: str
    cookies: tuple[str, ...] = ()
    """Values of `Set-Cookie`."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL of the gateway leads to, as far as signing in there goes."""

    team: TeamId
    realm: str
    """Its protection space: a cookie is good for one."""
    path: str
    """What the paths of its pages begin with; `/` for a host of its own."""
    decide: Callable[[Identity], Decision]
    """Whether somebody may call it."""


class Places(Protocol):
    """Tells what URLs of the gateway lead to: the gateway."""

    def find(self, host: str, path: str) -> Place | None:
        """The place; None when there is none.

        Args:
            host: host and port, as a browser says them.
            path: without the query.
        """
        ...


class BrowserSignIn(Protocol):
    """A source of identity for people's browsers at the gateway."""

    def authenticate_nowait(self, cookies: str, realm: str) -> Identity | Pending | None:
        """Whose browser shows these cookies, if that is known without waiting; never blocks.

        Args:
            cookies: those of a request whose name begins with `GATEWAY_COOKIE`, joined by `; `.
            realm: of the place that is asked for.
        """
        ...

    async def authenticate(self, cookies: str, realm: str) -> Identity | None:
        """Whose browser shows these cookies; None when they are not good for the place, or no more.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...

    def begin(self, *, host: str, target: str, root: str, realm: str) -> BrowserRedirect | None:
        """Send a browser to sign in; None where nobody does on that host.

        Args:
            host: that it asked.
            target: path and query that it asked for.
            root: path of the first page of the place, for a target that is too long to come back to.
            realm: of the place.
        """
        ...

    async def finish(self, *, ticket: str, cookies: str) -> BrowserRedirect:
        """Let a browser in that comes back with a ticket.

        Args:
            ticket: as it says it.
            cookies: as for `authenticate`.

        Raises:
            HomeportError: the ticket is not good, was used before, or is another browser's.
            DatabaseError: it cannot be told.
        """
        ...
