"""Follows the relay's events for as long as the process lives, and tells whoever listens.

Events are a hint. When some were lost, listeners are told so and must look at the list again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

import structlog

from api_server.relay.client import ProxyClient
from api_server.relay.dialer import ServiceDialer
from api_server.relay.events import EventKind, EventPosition, Notice, SessionEvent
from common.backoff import Backoff
from common.clock import Clock
from common.sessions.errors import SessionStoreError
from common.sessions.interfaces import SessionState

__all__ = ["DialerUpdates", "EventFeed", "EventListener", "NoticeListener"]

_log = structlog.get_logger(__name__)


class EventListener(Protocol):
    """What wants to know about sessions. No method may raise or block."""

    def session_changed(self, event: SessionEvent) -> None:
        """Something happened to a session."""

    def events_lost(self) -> None:
        """Some events were lost: what was learned from them may be wrong."""


class NoticeListener(Protocol):
    """What wants to know what API servers tell one another. No method may raise or block."""

    def bus_heard(self) -> None:
        """The relay has said something, if only that it is there."""

    def bus_lost(self) -> None:
        """The relay cannot be heard any more, or some of what it said was lost."""

    def notice_heard(self, notice: Notice) -> None:
        """An API server, perhaps this one, has told all of them something."""


class DialerUpdates:
    """Keeps a dialer's directory right, and its pool free of streams to sessions that are over.

    Args:
        dialer: to be kept.
        clock: time source of the pool.
    """

    __slots__ = ("_clock", "_dialer")

    def __init__(self, dialer: ServiceDialer, clock: Clock) -> None:
        self._dialer = dialer
        self._clock = clock

    def session_changed(self, event: SessionEvent) -> None:
        session = event.session
        if event.type == EventKind.OFFLINE or session.state is SessionState.DRAINING:
            self._dialer.directory.went_offline(session)
            # A session that drains waits for its streams; the idle ones must not be what it waits for.
            self._dialer.pool.evict(session.id, self._clock.monotonic())
        elif event.type in (EventKind.ONLINE, EventKind.UPDATED):
            self._dialer.directory.went_online(session)

    def events_lost(self) -> None:
        self._dialer.directory.clear()


class EventFeed:
    """One reader of the relay's events for the whole process.

    Args:
        client: of the relay.
        clock: measures how long a connection has lasted.
        backoff: delays between attempts.
        sleep: waits for so many seconds.
        on_link: told whether the relay is there: when the stream broke off, and with its first event after that.
    """

    __slots__ = (
        "_backoff",
        "_client",
        "_clock",
        "_connected",
        "_listeners",
        "_notice_listeners",
        "_on_link",
        "_position",
        "_sleep",
    )

    def __init__(
        self,
        client: ProxyClient,
        *,
        clock: Clock,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_link: Callable[[bool], object] | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._on_link = on_link if on_link is not None else bool
        self._backoff = backoff if backoff is not None else Backoff(base=0.5, maximum=15.0, healthy_after=30.0)
        self._sleep = sleep
        self._listeners: list[EventListener] = []
        self._notice_listeners: list[NoticeListener] = []
        self._position = EventPosition()
        self._connected = False

    def add(self, listener: EventListener) -> Callable[[], None]:
        """Tell `listener` from now on; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def add_notice_listener(self, listener: NoticeListener) -> None:
        """Tell `listener` of notices from now on, after those that were added before it."""
        self._notice_listeners.append(listener)

    async def run(self) -> None:
        """Follow the events until cancelled."""
        while True:
            began = self._clock.monotonic()
            try:
                await self._follow()
            except SessionStoreError as exc:
                # Once for each break, not once for each attempt: a relay may be away for long.
                if self._connected or self._backoff.attempts == 0:
                    _log.warning("relay events broke off", code=exc.code, detail=exc.detail)
                self._connected = False
                self._on_link(False)
                self._bus_lost()
                self._backoff.connected_for(self._clock.monotonic() - began)
                await self._sleep(self._backoff.next_delay(exc.retry_after))

    async def _follow(self) -> None:
        if self._position.last_id is None:
            # Nowhere to go on from: whatever happened until now was not heard.
            self._lost()
        async with aclosing(self._client.events(self._position, on_heard=self._heard)) as events:
            async for event in events:
                if not self._connected:
                    self._connected = True
                    self._on_link(True)
                if event is None:
                    self._lost()
                elif isinstance(event, Notice):
                    for each in tuple(self._notice_listeners):
                        each.notice_heard(event)
                else:
                    for listener in tuple(self._listeners):
                        listener.session_changed(event)

    def _heard(self) -> None:
        for listener in tuple(self._notice_listeners):
            listener.bus_heard()

    def _bus_lost(self) -> None:
        for listener in tuple(self._notice_listeners):
            listener.bus_lost()

    def _lost(self) -> None:
        self._bus_lost()
        for listener in tuple(self._listeners):
            listener.events_lost()
