"""The gateway: its listener, its one timer, its end.

The composition root makes one and starts it; everything that it needs comes in by constructor.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry

from api_server.auth.browsers import BrowserSignIn
from api_server.auth.interfaces import Authenticator, Identity
from api_server.backends import Backends
from api_server.gateway.access import Gatekeeper
from api_server.gateway.connection import ClientConnection
from api_server.gateway.core import GatewayCore
from api_server.gateway.device_streams import DeviceStreams
from api_server.gateway.errors import NoRouteError
from api_server.gateway.governor import Governor
from api_server.gateway.inspection import Recorder, Recording
from api_server.gateway.limits import GatewayLimits
from api_server.gateway.metrics import GatewayMetrics, GatewayStatistics
from api_server.gateway.places import GatewayPlaces
from api_server.gateway.registry import ConnectionRegistry
from api_server.gateway.replay import replay
from api_server.gateway.routes import DeviceRouter, NoRoutes, Router
from api_server.gateway.timers import TimerWheel
from api_server.gateway.visits import Visits
from api_server.relay.dialer import ServiceDialer
from common.clock import Clock
from common.loopback import send_without_pacing

__all__ = ["Gateway"]

_log = structlog.get_logger(__name__)

_TICK: Final = 0.5
"""Seconds; deadlines are met that late at most."""

_TURN: Final = 10.0
"""Seconds between two turns of what is remembered of heads: what nobody asks for is gone after two."""

_VISITED: Final = 0.5
"""Seconds between two looks at what is under way in the name of people: what has ended is to be cut within one."""

_BACKLOG: Final = 4096
"""Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn."""

_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
"""A client that has vanished is found by the kernel within two minutes (tcp(7)). Accepted sockets inherit these.
TCP_USER_TIMEOUT would also cut clients that are there and do not read for a while."""


class Gateway:
    """Serves devices' services to clients.

    Args:
        authenticator: who asks.
        dialer: gets streams to services; its pool's idle streams are ended by the gateway's timer.
        clock: time source.
        limits: what is allowed.
        domain: parent of the host names that name a service; None for none.
        router: finds the routes other than those to devices; None for none.
        backends: that routes lead to; their idle streams are ended by the gateway's timer, too. None for none.
        browsers: signs people's browsers in; None where nobody can sign in.
        registry: that shows the metrics; None for none.
        governor: says how much may pass; None: as much as comes.
        recorder: is told of requests to routes that are inspected; None for nobody.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        dialer: ServiceDialer,
        clock: Clock,
        limits: GatewayLimits | None = None,
        domain: str | None = None,
        router: Router | None = None,
        backends: Backends | None = None,
        browsers: BrowserSignIn | None = None,
        registry: CollectorRegistry | None = None,
        governor: Governor | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._connections = ConnectionRegistry()
        self._core = GatewayCore(
            limits=limits if limits is not None else GatewayLimits(),
            router=DeviceRouter(
                domain=domain,
                streams=partial(DeviceStreams, dialer),
                others=router if router is not None else NoRoutes(),
            ),
            gatekeeper=Gatekeeper(authenticator, browsers),
            browsers=browsers,
            visits=Visits(browsers) if browsers is not None else None,
            dialer=dialer,
            clock=clock,
            wheel=TimerWheel(tick=_TICK, now=clock.monotonic()),
            metrics=GatewayMetrics(
                dialer, registry=registry, occupancy=self._connections.occupancy, held=self._connections.held
            ),
            spawn=self._spawn,
            governor=governor,
            recorder=recorder,
        )
        self._backends = backends
        self.places = GatewayPlaces(self._core.router)
        """What its URLs lead to."""
        self._turned = self._visited = clock.monotonic()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        connections, active = self._connections.occupancy()
        state = "draining" if self._core.draining else "listening" if self._server is not None else "not started"
        return f"<Gateway {state}: {connections} connections, {active} active>"

    @property
    def connections(self) -> ConnectionRegistry:
        """Its clients."""
        return self._connections

    @property
    def port(self) -> int:
        """The port that it listens on.

        Raises:
            RuntimeError: it does not.
        """
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the gateway does not listen")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def statistics(self) -> GatewayStatistics:
        """How it is doing."""
        return self._core.metrics.statistics()

    def report_usage(self) -> None:
        """Count what has gone by so far of what is under way."""
        for connection in self._connections.snapshot():
            connection.report()

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Listen.

        Args:
            host: address.
            port: 0 for any free one.
            reuse_port: share the port with other processes; the kernel spreads the connections.

        Raises:
            OSError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        self._keeper = loop.create_task(self._keep_tasks(ready), name="gateway")
        await ready.wait()
        self._server = await loop.create_server(
            self._accept, host, port, backlog=_BACKLOG, reuse_port=reuse_port, start_serving=False
        )
        for listening in self._server.sockets:
            for option in _ALIVE:
                listening.setsockopt(*option)
            send_without_pacing(listening, listening.getsockname())  # what it accepts inherits that as well
        await self._server.start_serving()
        self._schedule()

    async def drain(self, grace: float) -> None:
        """Stop listening, and let what is under way end.

        Args:
            grace: seconds; what is left then is cut.
        """
        self._stop_listening()
        for connection in self._connections.snapshot():
            connection.retire()
        try:
            async with asyncio.timeout(grace):
                await self._connections.wait_empty()
        except TimeoutError:
            _log.warning("connections cut at the end of the grace", number=len(self._connections), grace=grace)
            self._cut()

    async def close(self) -> None:
        """End everything at once."""
        self._stop_listening()
        self._cut()
        await self._connections.wait_empty()
        self._core.dialer.pool.close()
        if self._backends is not None:
            self._backends.close()
        if self._timer is not None:
            self._timer.cancel()
        self._stopping.set()
        if self._keeper is not None:
            await self._keeper

    async def replay(
        self, identity: Identity, *, address: str, route_id: str, request: str, head: bytes, body: bytes
    ) -> Recording:
        """Send a request again that went to an inspected route; see `replay.replay`.

        Raises:
            ForbiddenError, NoRouteError, QuotaExceededError: it is not sent.
        """
        if self._core.recorder is None:
            raise NoRouteError("nothing is inspected here")
        return await replay(
            self._core,
            self._core.recorder,
            identity,
            address=address,
            route_id=route_id,
            request=request,
            head=head,
            body=body,
        )

    def tick(self) -> None:
        """Do what is due; called by the gateway's own timer."""
        now = self._core.clock.monotonic()
        self._core.wheel.advance(now)
        self._core.dialer.pool.expire(now)
        if self._backends is not None:
            self._backends.expire(now)
        visits = self._core.visits
        if visits is not None and visits.due and self._tasks is not None and now - self._visited >= _VISITED:
            self._visited = now
            self._spawn(visits.check())
        if now - self._turned >= _TURN:
            self._turned = now
            self._core.known_sections.turn()
            self._core.known_responses.turn()
            if self._core.recorder is not None:
                self._core.recorder.expire()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_TICK, self._on_timer)

    def _on_timer(self) -> None:
        self._schedule()
        self.tick()

    def _accept(self) -> ClientConnection:
        return ClientConnection(self._core, self._connections)

    def _stop_listening(self) -> None:
        self._core.draining = True
        if self._server is not None:
            self._server.close()

    def _cut(self) -> None:
        for connection in self._connections.snapshot():
            connection.cut()

    # Tasks: what a request cannot do without waiting. They belong to one group, which `_keeper` holds open, because
    # connections come and go by callbacks and no coroutine of theirs could.

    async def _keep_tasks(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as self._tasks:
            ready.set()
            await self._stopping.wait()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._tasks is not None
        return self._tasks.create_task(coroutine)
