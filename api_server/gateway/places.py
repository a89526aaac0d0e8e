"""What URLs of the gateway lead to, for whoever signs people in there."""

from __future__ import annotations

from collections.abc import Callable

from api_server.auth.browsers import Place
from api_server.auth.interfaces import Decision, Identity
from api_server.gateway.errors import BadPathError
from api_server.gateway.paths import check_path, is_authority
from api_server.gateway.routes import Router
from api_server.gateway.targets import Target

__all__ = ["GatewayPlaces"]


class GatewayPlaces:
    """Asks the gateway's router.

    Args:
        router: as requests are routed.
    """

    def __init__(self, router: Router) -> None:
        self._router = router

    def find(self, host: str, path: str) -> Place | None:
        """The place; None when there is none, or none with pages.

        Args:
            host: host and port, as a browser says them.
            path: without the query.
        """
        asked_host, asked_path = host.encode("latin-1", "replace"), path.encode("latin-1", "replace")
        try:
            check_path(asked_path)
        except BadPathError:
            return None
        route = self._router.route(asked_host, asked_path) if is_authority(asked_host) else None
        if route is None or route.target.raw:
            return None
        target = route.target
        return Place(target.team, target.realm, target.prefix.decode("ascii") or "/", _decision(target))


def _decision(target: Target) -> Callable[[Identity], Decision]:
    return lambda identity: identity.decide_call(target)
