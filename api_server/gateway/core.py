"""What all connections of one gateway share, and the interface between a connection and what it is busy with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from api_server.auth.browsers import BrowserSignIn
from api_server.gateway.access import Gatekeeper
from api_server.gateway.governor import Governor
from api_server.gateway.inspection import Recorder
from api_server.gateway.limits import GatewayLimits
from api_server.gateway.memo import Memo
from api_server.gateway.metrics import GatewayMetrics
from api_server.gateway.responses import ResponseHead, ResponseReader
from api_server.gateway.routes import Router
from api_server.gateway.sections import RequestFields
from api_server.gateway.timers import TimerWheel
from api_server.gateway.visits import Visits
from api_server.relay.dialer import ServiceDialer
from common.clock import Clock

__all__ = ["Activity", "GatewayCore"]


class Activity(Protocol):
    """What a client's connection is busy with: one request, or a raw connection. It is called for all that the client
    does until it says `ClientConnection.finish`, `become` or `close`. No method may raise or block.
    """

    @property
    def held(self) -> int:
        """Bytes that it holds."""
        ...

    def client_data(self, data: bytes) -> None:
        """The client sent bytes."""

    def client_eof(self) -> None:
        """The client will send no more; it may still be reading."""

    def client_lost(self) -> None:
        """The client is gone. Nothing is called after this."""

    def client_paused(self) -> None:
        """The client does not read as fast as it is written to."""

    def client_resumed(self) -> None:
        """It has caught up."""

    def due(self, now: float) -> None:
        """The connection's deadline has passed."""


@dataclass(slots=True, kw_only=True)
class GatewayCore:
    """What all connections of one gateway share."""

    limits: GatewayLimits
    router: Router
    gatekeeper: Gatekeeper
    dialer: ServiceDialer
    clock: Clock
    wheel: TimerWheel
    metrics: GatewayMetrics
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    """Runs what cannot be decided without waiting. The coroutine must not raise."""
    governor: Governor | None = None
    """Says how much may pass; None: as much as comes."""
    browsers: BrowserSignIn | None = None
    """Lets people's browsers in; None where nobody can sign in."""
    visits: Visits | None = None
    """What is under way in their name; None with `browsers`."""
    recorder: Recorder | None = None
    """Is told of requests to routes that are inspected; None for nobody."""
    draining: bool = False
    known_sections: Memo[RequestFields] = field(default_factory=Memo)
    known_responses: Memo[ResponseHead] = field(default_factory=Memo)
    """Both are shared, so that what they remember is of use to a client that asks once and leaves."""
    responses: ResponseReader = field(init=False)

    def __post_init__(self) -> None:
        self.responses = ResponseReader(self.known_responses, max_fields=self.limits.max_fields)
