"""Who may use which service: the gateway's side of authentication and authorisation.

    credential ──> Authenticator ──┐
    cookie ──────> BrowserSignIn ──┴─> Identity ──> may it call services of the team? ──> the route, or an error

A device of a team that the identity has nothing to do with is answered like one that does not exist, and so is a route.
"""

from __future__ import annotations

from typing import Final

from api_server.auth.browsers import BrowserSignIn
from api_server.auth.errors import ForbiddenError, TooManyAttemptsError, UnauthenticatedError
from api_server.auth.interfaces import PENDING, Authenticator, Decision, Identity, Pending
from api_server.gateway.errors import NoRouteError, NoSuchDeviceError, RateLimitedError
from api_server.gateway.requests import RequestHead
from api_server.gateway.routes import Route

__all__ = ["Gatekeeper"]

# A member of an enum is found by a descriptor, which costs more than a look into the module.
_ALLOWED: Final = Decision.ALLOWED

_NOTHING: Final = "nothing is served at this path"
_UNKNOWN: Final = "the token is not known, or no longer valid"
_SIGNED_OUT: Final = "you are not signed in any more; open the page again"


class Gatekeeper:
    """Decides whether a request may go where it wants to.

    Args:
        authenticator: source of identity for programs.
        browsers: source of identity for people's browsers; None where nobody can sign in.
    """

    __slots__ = ("_authenticator", "_browsers")

    def __init__(self, authenticator: Authenticator, browsers: BrowserSignIn | None = None) -> None:
        self._authenticator = authenticator
        self._browsers = browsers

    def identify_nowait(self, head: RequestHead, route: Route | None = None) -> Identity | Pending:
        """Who asks; `PENDING` when only `identify` can tell.

        Args:
            head: of the request.
            route: that it takes: a browser's cookie is good for one.

        Raises:
            UnauthenticatedError: nobody who is known.
            RateLimitedError: and too often.
        """
        presented = head.caller.credential
        if presented is None:
            browsers, cookies = self._browsers, head.caller.cookies
            if browsers is None or route is None or not cookies:
                raise UnauthenticatedError("send an API token: Authorization: Bearer hp_...")
            return _known(browsers.authenticate_nowait(cookies, route.target.realm), _SIGNED_OUT)
        try:
            return _known(self._authenticator.authenticate_nowait(presented.credential, address=head.caller.address))
        except TooManyAttemptsError as exc:
            raise RateLimitedError(exc.detail, retry_after=exc.retry_after) from exc

    async def identify(self, head: RequestHead, route: Route | None = None) -> Identity:
        """Who asks; the arguments are those of `identify_nowait`.

        Raises:
            UnauthenticatedError: nobody who is known.
            RateLimitedError: and too often.
        """
        identity = self.identify_nowait(head, route)
        if identity is not PENDING:
            return identity
        presented = head.caller.credential
        if presented is None:
            assert self._browsers is not None
            assert route is not None
            known = _known(await self._browsers.authenticate(head.caller.cookies, route.target.realm), _SIGNED_OUT)
        else:
            try:
                found = await self._authenticator.authenticate(presented.credential, address=head.caller.address)
            except TooManyAttemptsError as exc:
                raise RateLimitedError(exc.detail, retry_after=exc.retry_after) from exc
            known = _known(found)
        assert known is not PENDING
        return known

    def admit(self, identity: Identity, route: Route | None) -> Route:
        """Let an identity pass to its route.

        Raises:
            NoRouteError: there is none, or it is of a team that the identity has nothing to do with.
            NoSuchDeviceError: it leads to a device of a team that the identity has nothing to do with.
            ForbiddenError: the identity may not call services there.
        """
        if route is None:
            raise NoRouteError(_NOTHING)
        target = route.target
        decision = identity.decide_call(target)
        if decision is _ALLOWED:
            return route
        if decision is Decision.FORBIDDEN:
            what = f"the device {target.device}" if target.name is None else f"the route {target.name}"
            raise ForbiddenError(f"the token may not call {what} of the team {target.team}")
        if target.name is not None:
            raise NoRouteError(_NOTHING)
        raise NoSuchDeviceError(f"there is no device {target.device} in a team {target.team} of yours")


def _known(identity: Identity | Pending | None, otherwise: str = _UNKNOWN) -> Identity | Pending:
    if identity is None:
        raise UnauthenticatedError(otherwise)
    return identity
