"""One tunnel of the agent, from the dial to its end.

    DIALLING --hello of the relay--> SERVING --drain of the relay--> LEAVING
        |                               |                               |
        +-------------------------------+-------------------------------+--> ENDED

The agent's loop waits until a connection has *turned*: it failed, was lost, or the relay is draining it. A connection
that is being drained lives on beside the next one, until its streams have ended or the relay cuts them.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from enum import StrEnum

import trio

from common.errors import HomeportError
from common.logging import Logger
from common.tunnel.errors import TunnelError, TunnelLostError
from common.tunnel.interfaces import CloseReason, DeviceHandler, DeviceTunnel, PendingStream
from common.wire.messages import Drain, RelayHello
from edge_agent.dispatch import Dispatcher

__all__ = ["Connection", "Dial", "Outcome", "Phase"]

Outcome = Drain | TunnelLostError | HomeportError
"""Why a connection turned: the relay's drain, the loss of an open tunnel, or why there never was one."""

Dial = Callable[[DeviceHandler], Awaitable[TunnelLostError]]
"""Opens a tunnel and runs it to its end; raises a `HomeportError` if none could be opened."""


class Phase(StrEnum):
    """Where a connection is; see the module."""

    DIALLING = "dialling"
    SERVING = "serving"
    LEAVING = "leaving"
    ENDED = "ended"


class Connection:
    """Implements `common.tunnel.interfaces.DeviceHandler`.

    Args:
        dispatch: gets the relay's requests.
        on_connected: called when the relay has registered the session.
        logger: for what happens to this tunnel.
        hello_timeout: seconds that the relay has to say hello.
    """

    def __init__(
        self,
        dispatch: Dispatcher,
        on_connected: Callable[[Connection, RelayHello], None],
        logger: Logger,
        *,
        hello_timeout: float,
    ) -> None:
        self._dispatch = dispatch
        self._on_connected = on_connected
        self._logger = logger
        self._hello_timeout = hello_timeout
        self._scope = trio.CancelScope()
        self._turned = trio.Event()
        self._ended = trio.Event()
        self._opened_at: float | None = None
        self._stopping = False
        self.phase = Phase.DIALLING
        self.tunnel: DeviceTunnel | None = None
        """The tunnel, once it is open."""
        self.hello: RelayHello | None = None
        """What the relay said of the session."""
        self.outcome: Outcome | None = None

    def __repr__(self) -> str:
        session = self.hello.session_id if self.hello is not None else "no session"
        return f"<Connection {self.phase} {session}>"

    async def run(self, dial: Dial) -> None:
        """Dial, and serve until the tunnel ends."""
        try:
            with self._scope:
                self._turn(await self._end_of(dial))
            if self._scope.cancelled_caught and not self._stopping:
                detail = f"the relay accepted the tunnel and said nothing for {self._hello_timeout:g} s"
                self._turn(TunnelLostError(detail, reason=CloseReason.HELLO_TIMEOUT))
        finally:
            self.phase = Phase.ENDED
            self._ended.set()

    async def _end_of(self, dial: Dial) -> HomeportError:
        try:
            return await dial(self)
        except HomeportError as exc:
            return exc

    @property
    def lasted(self) -> float:
        """Seconds since the tunnel opened; 0 if it never did."""
        return 0.0 if self._opened_at is None else trio.current_time() - self._opened_at

    async def wait_turned(self) -> Outcome:
        """Wait until this connection no longer takes new streams, or never will."""
        await self._turned.wait()
        assert self.outcome is not None
        return self.outcome

    async def wait_ended(self) -> None:
        """Wait until it is over."""
        await self._ended.wait()

    def stop(self) -> None:
        """Take no more streams, and end once those that are open have ended."""
        self._stopping = True
        if self.tunnel is None:
            self._scope.cancel()
        else:
            self.tunnel.drain()

    def close(self) -> None:
        """End now: streams are reset, the relay is told why."""
        if self.tunnel is not None:
            self.tunnel.close(CloseReason.DRAINING)

    def _turn(self, outcome: Outcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self._turned.set()
        elif isinstance(outcome, TunnelLostError):
            self._logger.info("drained tunnel ended", reason=outcome.reason, detail=outcome.detail)

    # DeviceHandler

    def tunnel_opened(self, tunnel: DeviceTunnel) -> None:
        self.tunnel = tunnel
        self._opened_at = trio.current_time()
        self._scope.deadline = self._opened_at + self._hello_timeout

    def hello_received(self, hello: RelayHello) -> None:
        self._scope.deadline = math.inf
        self.hello = hello
        self.phase = Phase.SERVING
        self._on_connected(self, hello)

    def service_requested(self, request: PendingStream) -> None:
        self._dispatch.handle(request)

    def drain_received(self, drain: Drain) -> None:
        self.phase = Phase.LEAVING
        self._turn(drain)

    def tunnel_drained(self) -> None:
        assert self.tunnel is not None
        self.tunnel.close(CloseReason.DRAINING)

    def tunnel_closed(self, exc: TunnelError) -> None:
        """`run` gets the same error from the dial."""
