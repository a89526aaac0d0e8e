"""Keeps the device reachable: one tunnel up, a second one while the first is being drained, and an orderly end.

    CONNECTING --hello--> CONNECTED --lost, drained--> WAITING --> CONNECTING ...
    any of them --stop()--> STOPPING --> the end, with exit code 0
    any of them --refused for good--> the end, with exit code 1

Every change is one line in the log. What to do after a tunnel's end is decided by `redial`; this module only does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import trio

from common.logging import Logger
from common.tunnel.errors import HandshakeRefusedError, TunnelLostError
from common.tunnel.interfaces import DeviceHandler
from common.wire import messages
from common.wire.messages import Drain, RelayHello, Stats
from edge_agent.connection import Connection, Outcome
from edge_agent.dispatch import Dispatcher, DispatchStatistics
from edge_agent.health import HealthMonitor
from edge_agent.redial import Redial, Retry, Stop
from edge_agent.services import ServiceList

__all__ = ["Agent", "AgentState", "AgentStatistics", "Dialer"]

_HELLO_TIMEOUT = 15.0
"""Seconds that a relay has to register the session after it accepted the tunnel."""

_CLOSE_TIME = 5.0
"""Seconds to tell the relay why, once the grace is over: the tunnel's own limit for that is shorter."""

_FIGURES_INTERVAL = 30.0
"""Seconds between two reports of figures to the relay."""


class Dialer(Protocol):
    """Opens tunnels."""

    async def run_tunnel(self, handler: DeviceHandler, services: Sequence[messages.Service]) -> TunnelLostError:
        """Dial, and run the tunnel to its end.

        Raises:
            HomeportError: no tunnel was opened.
        """
        ...

    def token_changed(self) -> bool:
        """Whether the token file holds another token than the one that was shown last."""
        ...


class AgentState(StrEnum):
    """How the agent is doing."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    """For the next attempt."""
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatistics:
    """The agent as it is now."""

    state: AgentState
    session_id: str | None
    """Of the session that takes new streams."""
    epoch: int | None
    attempts: int
    """Retries since the last healthy tunnel."""
    tunnels: int
    """Two while one of them is being drained."""
    bytes_in: int
    """Payload bytes from the relay, since the start."""
    bytes_out: int
    streams: DispatchStatistics


class Agent:
    """See the module.

    Args:
        dialer: opens tunnels.
        services: what may be reached.
        redial: decides after each tunnel.
        make_monitor: builds the health checks, from the function that they tell of changes.
        logger: one line for each change of state.
        on_change: called after each change, for the ready file.
        max_streams: at a time.
        drain_grace: seconds that streams may go on after `stop`.
    """

    def __init__(
        self,
        dialer: Dialer,
        services: ServiceList,
        *,
        redial: Redial,
        make_monitor: Callable[[Callable[[Sequence[messages.Service]], None]], HealthMonitor],
        logger: Logger,
        on_change: Callable[[AgentStatistics], None],
        max_streams: int,
        drain_grace: float,
    ) -> None:
        self._dialer = dialer
        self._services = services
        self._redial = redial
        self._monitor = make_monitor(self._services_changed)
        self._logger = logger
        self._on_change = on_change
        self._max_streams = max_streams
        self._drain_grace = drain_grace
        self._connections: dict[Connection, None] = {}  # in the order of their dials
        self._keeping = trio.CancelScope()
        self._grace = trio.CancelScope()
        self._state = AgentState.CONNECTING
        self._dispatch: Dispatcher | None = None
        self._started_at = 0.0
        self._past_bytes_in = 0  # of tunnels that are over
        self._past_bytes_out = 0

    def __repr__(self) -> str:
        return f"<Agent {self._state} {list(self._connections)!r}>"

    async def run(self) -> int:
        """Run until stopped, or refused for good; returns the exit code."""
        self._started_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            self._dispatch = Dispatcher(self._services, nursery, max_streams=self._max_streams)
            nursery.start_soon(self._monitor.run)
            nursery.start_soon(self._report_figures)
            code = 0
            with self._keeping:
                code = await self._keep_connected(nursery, self._dispatch)
            self._change(AgentState.STOPPING)
            await self._finish(self._dispatch)
            nursery.cancel_scope.cancel()
        self._logger.info("stopped", exit_code=code)
        return code

    def stop(self) -> None:
        """Stop in order: tell the relay, let streams end within the grace. A second call ends the grace."""
        if self._state is AgentState.STOPPING:
            self._grace.cancel()
            return
        self._change(AgentState.STOPPING)
        self._logger.info("stopping", streams=self._streams(), grace=self._drain_grace)
        self._keeping.cancel()

    def statistics(self) -> AgentStatistics:
        """The agent as it is now."""
        tunnels = [c.tunnel.statistics() for c in self._connections if c.tunnel is not None]
        hello = self._current_hello()
        return AgentStatistics(
            state=self._state,
            session_id=None if hello is None else hello.session_id,
            epoch=None if hello is None else hello.epoch,
            attempts=self._redial.attempts,
            tunnels=len(tunnels),
            bytes_in=self._past_bytes_in + sum(t.bytes_in for t in tunnels),
            bytes_out=self._past_bytes_out + sum(t.bytes_out for t in tunnels),
            streams=DispatchStatistics(streams=0, accepted=0, refused=0, abandoned=0)
            if self._dispatch is None
            else self._dispatch.statistics(),
        )

    # One tunnel after the other.

    async def _keep_connected(self, nursery: trio.Nursery, dispatch: Dispatcher) -> int:
        while True:
            self._change(AgentState.CONNECTING)
            connection = Connection(dispatch, self._connected, self._logger, hello_timeout=_HELLO_TIMEOUT)
            self._connections[connection] = None
            nursery.start_soon(self._hold, connection)
            outcome = await connection.wait_turned()
            decision = self._decide(connection, outcome)
            if isinstance(decision, Stop):
                self._logger.error("giving up", reason=decision.reason, detail=decision.detail, advice=decision.advice)
                return 1
            self._change(AgentState.WAITING)
            if decision.contested:
                self._logger.warning("replaced", detail=decision.detail)
            seconds = round(decision.delay, 1)
            self._logger.info("retrying", seconds=seconds, reason=decision.reason, attempt=self._redial.attempts)
            await trio.sleep(decision.delay)

    async def _hold(self, connection: Connection) -> None:
        services = self._monitor.report()
        try:
            await connection.run(lambda handler: self._dialer.run_tunnel(handler, services))
        finally:
            if connection.tunnel is not None:
                ended = connection.tunnel.statistics()
                self._past_bytes_in += ended.bytes_in
                self._past_bytes_out += ended.bytes_out
            del self._connections[connection]

    def _decide(self, connection: Connection, outcome: Outcome) -> Retry | Stop:
        if isinstance(outcome, Drain):
            self._logger.info("relay drains", reason=outcome.reason, reconnect_after=outcome.reconnect_after)
            return self._redial.after_drain(outcome, lasted=connection.lasted)
        if isinstance(outcome, TunnelLostError):
            self._logger.warning(
                "lost", reason=outcome.reason, detail=outcome.detail, lasted=round(connection.lasted, 1)
            )
            return self._redial.after_loss(outcome, lasted=connection.lasted)
        if isinstance(outcome, HandshakeRefusedError):
            self._logger.warning("refused", status=outcome.http_status, reason=outcome.reason, detail=outcome.detail)
        else:
            self._logger.warning("cannot connect", reason=outcome.code, detail=outcome.detail)
        return self._redial.after_failure(outcome, token_changed=self._dialer.token_changed())

    # The end.

    async def _finish(self, dispatch: Dispatcher) -> None:
        """Let streams end within the grace; then cut them, and tell the relay."""
        dispatch.stop()
        connections = list(self._connections)
        for connection in connections:
            connection.stop()
        self._grace.deadline = trio.current_time() + self._drain_grace
        with self._grace:
            await self._wait_ended(connections)
            await dispatch.wait_idle()
        if self._grace.cancelled_caught:
            self._logger.warning("cutting streams", streams=self._streams())
            for connection in connections:
                connection.close()
            with trio.move_on_after(_CLOSE_TIME):
                await self._wait_ended(connections)

    async def _wait_ended(self, connections: Sequence[Connection]) -> None:
        for connection in connections:
            await connection.wait_ended()

    # What connections and health checks tell.

    def _connected(self, connection: Connection, hello: RelayHello) -> None:
        if self._state is not AgentState.STOPPING:
            self._change(AgentState.CONNECTED)
        self._logger.info("connected", session=hello.session_id, epoch=hello.epoch, relay=hello.software)
        # The hello was written before the handshake; what changed since is told now.
        assert connection.tunnel is not None
        connection.tunnel.update_services(self._monitor.report())

    def _services_changed(self, services: Sequence[messages.Service]) -> None:
        for connection in self._connections:
            if connection.hello is not None and connection.tunnel is not None:
                connection.tunnel.update_services(services)

    async def _report_figures(self) -> None:
        while True:
            await trio.sleep(_FIGURES_INTERVAL)
            statistics = self.statistics()
            figures = Stats(
                uptime=min(trio.current_time() - self._started_at, 31_536_000.0),
                streams=statistics.streams.streams,
                streams_total=statistics.streams.accepted,
                bytes_in=statistics.bytes_in,
                bytes_out=statistics.bytes_out,
            )
            for connection in self._connections:
                if connection.hello is not None and connection.tunnel is not None:
                    connection.tunnel.send_stats(figures)

    def _current_hello(self) -> RelayHello | None:
        if self._state is not AgentState.CONNECTED:
            return None
        return next((c.hello for c in reversed(self._connections) if c.hello is not None), None)

    def _streams(self) -> int:
        return 0 if self._dispatch is None else self._dispatch.statistics().streams

    def _change(self, state: AgentState) -> None:
        self._state = state
        self._on_change(self.statistics())
