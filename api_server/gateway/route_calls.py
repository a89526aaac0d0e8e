"""Ends what is open by a route once the route is gone, or leads where its caller may not call.

    the route is deleted, or its team is              its calls are cut, at once
    its tags or its name are others                   those whose caller's scopes do not cover it any more
    it leads elsewhere, or shows another secret       nothing: what is open goes on, the next request goes the new way

The last is what rotating a secret needs, and what a change of a backend has to be to be done by day. Whoever wants the
old way to be closed deletes the route and makes it anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from api_server.auth.interfaces import Decision, Identity
from api_server.gateway.targets import Target
from common.logging import Logger, get_logger

__all__ = ["RouteWatch"]


class RoutedCall(Protocol):
    """A connection of a client."""

    @property
    def caller(self) -> Identity | None:
        """On whose behalf its last request was admitted."""
        ...

    @property
    def target(self) -> Target | None:
        """Where what is under way goes; None for nothing that was admitted."""
        ...

    def cut(self) -> None:
        """End it at once."""


class RoutedCalls(Protocol):
    """The connections of a gateway."""

    def snapshot(self) -> Iterable[RoutedCall]:
        """Those of this moment."""
        ...


class RouteWatch:
    """Watches over the calls by routes.

    Args:
        calls: that are under way.
        log: says when something is cut.
    """

    def __init__(self, calls: RoutedCalls, *, log: Logger | None = None) -> None:
        self._calls = calls
        self._log = log if log is not None else get_logger(__name__)

    def replaced(self, targets: Mapping[str, Target | None]) -> None:
        """Routes are others than before.

        Args:
            targets: where they lead now, by their ids; None for one that is gone.
        """
        cut = 0
        for call in self._calls.snapshot():
            route = call.target.route_id if call.target is not None else None
            if route is not None and route in targets and not _may_stay(call.caller, targets[route]):
                call.cut()
                cut += 1
        if cut:
            self._log.info("calls were cut, whose route is gone or not theirs any more", calls=cut)


def _may_stay(caller: Identity | None, target: Target | None) -> bool:
    return target is not None and caller is not None and caller.decide_call(target) is Decision.ALLOWED
