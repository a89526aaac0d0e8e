"""Who may use which service: the gateway's side of authentication and authorisation.

    credential ──> Authenticator ──> Identity ──> may it call services of the team? ──> the route, or an error

A device of a team that the identity has nothing to do with is answered like one that does not exist, and so is a route.
"""

from __future__ import annotations

from typing import Final

from api_server.auth.errors import ForbiddenError, TooManyAttemptsError, UnauthenticatedError
from api_server.auth.interfaces import PENDING, Authenticator, Decision, Identity, Pending
from api_server.gateway.errors import NoRouteError, NoSuchDeviceError, RateLimitedError
from api_server.gateway.requests import RequestHead
from api_server.gateway.routes import Route

__all__ = ["Gatekeeper"]

# A member of an enum is found by a descriptor, which costs more than a look into the module.
_ALLOWED: Final = Decision.ALLOWED

_NOTHING: Final = "nothing is served at this path"


class Gatekeeper:
    """Decides whether a request may go where it wants to.

    Args:
        authenticator: source of identity.
    """

    __slots__ = ("_authenticator",)

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def identify_nowait(self, head: RequestHead) -> Identity | Pending:
        """Who asks; `PENDING` when only `identify` can tell.

        Raises:
            UnauthenticatedError: nobody who is known.
            RateLimitedError: and too often.
        """
        presented = head.caller.credential
        if presented is None:
            raise UnauthenticatedError("send an API token: Authorization: Bearer hp_...")
        try:
            return _known(self._authenticator.authenticate_nowait(presented.credential, address=head.caller.address))
        except TooManyAttemptsError as exc:
            raise RateLimitedError(exc.detail, retry_after=exc.retry_after) from exc

    async def identify(self, head: RequestHead) -> Identity:
        """Who asks.

        Raises:
            UnauthenticatedError: nobody who is known.
            RateLimitedError: and too often.
        """
        identity = self.identify_nowait(head)
        if identity is not PENDING:
            return identity
        presented = head.caller.credential
        assert presented is not None
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


def _known(identity: Identity | Pending | None) -> Identity | Pending:
    if identity is None:
        raise UnauthenticatedError("the token is not known, or no longer valid")
    return identity
