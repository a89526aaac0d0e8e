"""What goes by on a client's connection: counted for the request that is under way, and held up if it is too much.

    hold_ticket, visit ──bytes──> report, now and then ──> settle: the ticket is ended with what has gone by

There are three reasons not to take bytes, and each is lifted by itself: the activity wants none of the client
(`pause_reading`), the client does not read as fast as it is written to (`write_paused`), and more has gone by than the
limits allow, either way, until that is made up for (throttled).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Final

from api_server.auth.interfaces import Identity
from api_server.gateway.core import Activity, GatewayCore
from api_server.gateway.governor import Ticket
from api_server.gateway.targets import Target
from api_server.gateway.visits import Visits
from common.tunnel.stream import Buffer

__all__ = ["MeteredConnection"]

_SHORTEST_WAIT: Final = 0.01
"""Seconds; what is less is made up for with what follows."""


class MeteredConnection(asyncio.Protocol, ABC):
    """One client, as far as bytes are concerned and not what they mean. A base class and not a part, because each
    buffer passes it.

    Args:
        core: the gateway's.
    """

    __slots__ = (
        "_activity",
        "_core",
        "_reading",
        "_received",
        "_sent",
        "_throttled",
        "_transport",
        "_visiting",
        "caller",
        "target",
        "ticket",
        "write_paused",
    )

    _transport: asyncio.Transport

    def __init__(self, core: GatewayCore) -> None:
        self._core = core
        self._activity: Activity | None = None
        self._reading = True
        self._throttled = False
        """More bytes than may have gone by: none is taken from either side until that is made up for."""
        self._received = 0
        self._sent = 0
        """Bytes of the request that is under way and of its response, with all that belongs to them."""
        self._visiting = False
        """What is under way is a person's browser's."""
        self.ticket: Ticket | None = None
        """Of the request that is under way."""
        self.caller: Identity | None = None
        """On whose behalf the last request was admitted."""
        self.target: Target | None = None
        """Where what is under way goes, once that is admitted."""
        self.write_paused = False

    @abstractmethod
    def cut(self) -> None:
        """Cut the connection, and let what is under way end as if the client had gone."""

    @abstractmethod
    def _advance(self) -> None:
        """Nothing is under way, and the next request need not wait."""

    @property
    def reading(self) -> bool:
        """Whether the client's bytes are taken."""
        return self._reading and not self._throttled

    # asyncio.Protocol

    def pause_writing(self) -> None:
        self.write_paused = True
        if self._activity is not None:
            self._activity.client_paused()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._throttled:
            return
        if self._activity is not None:
            self._activity.client_resumed()
        else:
            self._advance()

    # For the activity

    def write(self, data: Buffer) -> None:
        """Send bytes to the client."""
        size = len(data)
        self._core.metrics.bytes_out += size
        self._sent += size
        self._transport.write(data)
        if self.ticket is not None and self.ticket.paced:
            self._pace(size)

    def write_all(self, buffers: list[Buffer]) -> None:
        """Send buffers by one system call, without joining them."""
        size = sum(map(len, buffers))
        self._core.metrics.bytes_out += size
        self._sent += size
        self._transport.writelines(buffers)
        if self.ticket is not None and self.ticket.paced:
            self._pace(size)

    def pause_reading(self) -> None:
        """Take no more bytes of the client."""
        if self._reading:
            self._reading = False
            if not self._throttled:
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again."""
        if not self._reading:
            self._reading = True
            if not self._throttled:
                self._transport.resume_reading()

    def hold_ticket(self, ticket: Ticket) -> None:
        """The request that is under way may pass; the ticket is ended with it, however it ends."""
        assert self.ticket is None
        self.ticket = ticket
        if ticket.paced:
            self._pace(self._received)  # what came with the head

    def visit(self, visits: Visits, cookies: str, target: Target) -> None:
        """The request that is under way is a person's browser's."""
        self._visiting = True
        visits.enter(self, cookies, target)

    # How much may pass

    @property
    def _waits(self) -> bool:
        """Whether the next request has to."""
        return self.write_paused or self._throttled

    def _settle(self) -> None:
        """What was under way is over."""
        self.target = None
        if self._visiting:
            self._visiting = False
            assert self._core.visits is not None
            self._core.visits.leave(self)
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            ticket.end(self._received, self._sent)
        self._received = self._sent = 0

    def report(self) -> None:
        """Tell what has gone by so far, of what is under way and may be for long."""
        if self.ticket is not None and self.ticket.status:
            received, sent = self._received, self._sent
            self._received = self._sent = 0
            self.ticket.report(received, sent)

    def _pace(self, size: int) -> None:
        """Bytes have gone by; wait before more of them do, if they were too many."""
        assert self.ticket is not None
        wait = self.ticket.pace(size, self._core.clock.monotonic())
        if wait < _SHORTEST_WAIT or self._transport.is_closing():
            return
        if not self._throttled:
            self._throttled = True
            if self._reading:
                self._transport.pause_reading()
            asyncio.get_running_loop().call_later(wait, self._go_on)
        if self._activity is not None:
            self._activity.client_paused()

    def _go_on(self) -> None:
        self._throttled = False
        if self._transport.is_closing():
            return
        if self._reading:
            self._transport.resume_reading()
        if self.write_paused:
            return
        if self._activity is not None:
            self._activity.client_resumed()
        else:
            self._advance()
