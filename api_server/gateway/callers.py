"""Ends what tokens have open through the gateway once they may no longer call it.

A request is decided when it begins, and may last for days: an upgraded connection, raw TCP, a stream of events, a long
download. Each connection knows on whose behalf it is busy, which costs an assignment a request; the rest is done when
something changes:

    a token is revoked                        its calls are cut, at once
    another change of it, or of its issuer    the database is asked about it, or about every token that has calls open
    something may have been missed            the same
    every 30 seconds                          the same, for those that have expired

The administration token does not end, and nor does a call with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from api_server.auth.interfaces import Action, Identity, Standing
from api_server.changes.interfaces import Change, ChangeListener, Topic
from api_server.db.errors import DatabaseError
from common.clock import Clock
from common.logging import Logger, get_logger

__all__ = ["Call", "CallerWatch"]

_INTERVAL: Final = 30.0
"""Seconds between two looks when nothing is known to have changed."""

_RETRY: Final = 1.0
"""Seconds until one looks again when the database is away."""

_TOKEN_ID: Final = "tok_"  # noqa: S105  what the id of an API token begins with


class Call(Protocol):
    """A connection of a client."""

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        ...

    @property
    def caller(self) -> Identity | None:
        """On whose behalf its last request was admitted."""
        ...

    def cut(self) -> None:
        """End it at once."""


class Calls(Protocol):
    """The connections of a gateway."""

    def snapshot(self) -> Iterable[Call]:
        """Those of this moment."""
        ...


class CallerWatch:
    """Watches over the calls of tokens.

    Args:
        calls: that are under way.
        standing: what tokens may do now.
        clock: wall time.
        interval: seconds between two looks when nothing is known to have changed.
        log: says when something is cut, or cannot be looked at.
    """

    def __init__(
        self,
        calls: Calls,
        standing: Standing,
        clock: Clock,
        *,
        interval: float = _INTERVAL,
        log: Logger | None = None,
    ) -> None:
        self._calls = calls
        self._standing = standing
        self._clock = clock
        self._interval = interval
        self._log = log if log is not None else get_logger(__name__)
        self._look = asyncio.Event()

    def listeners(self) -> tuple[ChangeListener, ...]:
        """What is to be told of changes."""
        return _OfTokens(self), _OfPeople(self)

    def revoked(self, token: str) -> None:
        """A token is revoked: cut its calls."""
        self._cut(call for call in self._calls_of_tokens() if call.caller is not None and call.caller.id == token)

    def look_soon(self) -> None:
        """Some tokens may do less than before."""
        self._look.set()

    async def run(self) -> None:
        """Look when it is time to, until cancelled."""
        pause = self._interval
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            try:
                await self.look()
            except DatabaseError as exc:
                # What is open stays open: nobody can revoke anything while nobody has the database.
                if pause != _RETRY:
                    self._log.warning("the tokens of open calls cannot be looked at", code=exc.code, detail=exc.detail)
                pause = _RETRY
            else:
                pause = self._interval

    async def look(self) -> None:
        """Cut the calls of those that may not call any more.

        Raises:
            DatabaseError: it cannot be told.
        """
        callers = {call.caller.id for call in self._calls_of_tokens() if call.caller is not None}
        if not callers:
            return
        standing = await self._standing.identities(callers, self._clock.wall())
        # Those that came meanwhile were decided on what holds now.
        self._cut(
            call
            for call in self._calls_of_tokens()
            if call.caller is not None and call.caller.id in callers and not _stands(call.caller, standing)
        )

    def _calls_of_tokens(self) -> list[Call]:
        return [
            call
            for call in self._calls.snapshot()
            if call.busy and call.caller is not None and call.caller.id.startswith(_TOKEN_ID)
        ]

    def _cut(self, calls: Iterable[Call]) -> None:
        cut = 0
        for call in calls:
            call.cut()
            cut += 1
        if cut:
            self._log.info("calls were cut, whose tokens may not call any more", calls=cut)


def _stands(caller: Identity, standing: Mapping[str, Identity]) -> bool:
    """Whether who called before may still call something where it did."""
    now = standing.get(caller.id)
    return now is not None and all(now.may(Action.GATEWAY_CALL, team) for team in caller.teams)


class _OfTokens:
    """Implements `ChangeListener`."""

    def __init__(self, watch: CallerWatch) -> None:
        self.topic = Topic.TOKENS
        self._watch = watch

    def changed(self, change: Change) -> None:
        if change.event == "token.revoked":
            self._watch.revoked(change.subject)
        elif change.event is None:
            self._watch.look_soon()

    def all_changed(self) -> None:
        self._watch.look_soon()


class _OfPeople:
    """Implements `ChangeListener`."""

    def __init__(self, watch: CallerWatch) -> None:
        self.topic = Topic.PEOPLE
        self._watch = watch

    def changed(self, change: Change) -> None:  # noqa: ARG002  which tokens are the user's, the database knows
        self._watch.look_soon()

    def all_changed(self) -> None:
        self._watch.look_soon()
