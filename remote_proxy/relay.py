"""One relay, put together from its parts.

    tunnel port    BoundedListener -> TunnelListener (common.tunnel) -> Gate -> LiveTunnel -> InMemoryStore
    internal port  ConnectionListener -> stream requests: LiveTunnel.open_nowait, then ClientEnd and DeviceEnd
                                      -> all else: ControlApi on aiohttp

Everything runs on one thread and one loop. The only tasks are the reaper's and aiohttp's; tunnels and streams have
none.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from aiohttp import web

from common.clock import Clock, SystemClock
from common.crypto.keyfiles import read_secret
from common.crypto.session_tokens import SessionTokenVerifier
from common.logging import get_logger
from common.metrics import new_registry
from common.sessions.interfaces import Summary
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.handshake import PlainAnswer
from common.tunnel.holdings import Holdings
from common.tunnel.on_asyncio import TunnelListener
from common.yamux import Config as YamuxConfig
from common.yamux import MemoryBudget
from remote_proxy.drain import Drain
from remote_proxy.events import EventKind, EventRing
from remote_proxy.internal.api import ControlApi
from remote_proxy.internal.authentication import Authentication
from remote_proxy.internal.connections import ConnectionLimits, ConnectionListener
from remote_proxy.metrics import RelayMetrics
from remote_proxy.reaper import Reaper
from remote_proxy.revocations import Revocations
from remote_proxy.settings import RelaySettings
from remote_proxy.store import InMemoryStore
from remote_proxy.tls import server_context
from remote_proxy.tunnels.admission import AdmissionLimits, Gate
from remote_proxy.tunnels.listener import BoundedListener
from remote_proxy.tunnels.live import LiveTunnels
from remote_proxy.tunnels.session import LiveTunnel, TunnelContext
from remote_proxy.tunnels.traffic import Traffic

__all__ = ["Relay"]

_BACKLOG = 4096
"""Connections that the kernel may hold for us: after a restart all devices dial at once."""
_PORT_CHECKS = 0.02
"""Seconds between two attempts at a port that another relay has."""
_LAST_NEWS = 0.2
"""Seconds that readers of events have for the last of them, when a relay hands over."""
_KEEP_ALIVE = 75.0
"""Seconds that a connection of the control API may be idle, or in the middle of a head."""


class _Announcer:
    """Puts the store's changes into the event ring."""

    def __init__(self, events: EventRing) -> None:
        self._events = events

    def session_online(self, session: Summary) -> None:
        self._events.append(EventKind.ONLINE, session)

    def session_offline(self, session: Summary, reason: str) -> None:
        self._events.append(EventKind.OFFLINE, session, reason)

    def session_updated(self, session: Summary) -> None:
        self._events.append(EventKind.UPDATED, session)


class Relay:
    """One relay: `start` it, `drain` it, `close` it.

    Args:
        settings: what it was told.
        clock: source of time for sessions and credentials; the loop has its own.

    Raises:
        KeyFileError: a key file cannot be used.
        SettingsError: a certificate cannot be used.
    """

    def __init__(self, settings: RelaySettings, *, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self._settings = settings
        self._log = get_logger("relay")
        self._tunnel_tls = server_context(settings.tunnel_tls_cert_file, settings.tunnel_tls_key_file)
        self._internal_tls = server_context(
            settings.internal_tls_cert_file, settings.internal_tls_key_file, settings.internal_tls_client_ca_file
        )
        self._authentication = Authentication(
            read_secret(settings.internal_key_file) if settings.internal_key_file is not None else None
        )
        self.name = settings.relay_name
        """What people know it by; once it listens, host name and port unless something else was set."""
        self.events = EventRing(secrets.token_hex(4), size=settings.max_events, clock=clock)
        self.store: InMemoryStore[LiveTunnel] = InMemoryStore(
            clock=clock, expires_after=settings.dead_after * 2, observer=_Announcer(self.events)
        )
        self.revocations = Revocations()
        self.live: LiveTunnels[LiveTunnel] = LiveTunnels()
        self._traffic = Traffic()
        self._budget = MemoryBudget(settings.memory_budget)
        self._holdings = Holdings(settings.buffer_budget)
        self.gate = Gate(
            TunnelContext(
                clock=clock,
                store=self.store,
                revocations=self.revocations,
                traffic=self._traffic,
                live=self.live,
                log=self._log,
                relay_name=lambda: self.name,
                software=f"homeport-relay/{version('homeport')}",
                probe_interval=settings.probe_interval,
                dead_after=settings.dead_after,
                max_streams=settings.max_streams_per_tunnel,
                opens_per_second=settings.max_opens_per_second,
                replaced_grace=settings.drain_grace,
            ),
            SessionTokenVerifier.from_file(settings.session_keys_file),
            AdmissionLimits(
                max_tunnels=settings.max_tunnels,
                handshakes_per_second=settings.handshakes_per_second,
                handshakes_burst=settings.handshakes_burst,
                failed_handshakes_per_second=settings.failed_handshakes_per_second,
                failed_handshakes_burst=settings.failed_handshakes_burst,
                trusted_proxies=settings.trusted_proxies,
                await_revocations=settings.await_revocations,
            ),
        )
        self._drain = Drain(
            self.live,
            self.gate,
            grace=settings.drain_grace,
            log=self._log,
            give_up_ports=self._give_up_ports if settings.handover_timeout else None,
            handshakes_per_second=settings.handshakes_per_second,
        )
        self._servers: list[asyncio.Server] = []
        self._reaper = Reaper(
            self.store, self.revocations, clock=clock, interval=settings.probe_interval, log=self._log
        )
        self.registry = new_registry()
        self._exit = contextlib.AsyncExitStack()
        self.tunnel_url = ""
        """Where devices dial; known once started."""
        self.internal_url = ""
        """Base URL of internal HTTP; known once started."""

    async def __aenter__(self) -> Relay:
        """Listen on both ports.

        Raises:
            OSError: a port cannot be had.
        """
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything at once, without a word to anybody: `drain` comes before."""
        await self._exit.aclose()

    def not_ready(self) -> str | None:
        """Why it takes no tunnels, or None if it does."""
        if self._drain.started:
            return "draining"
        if self._settings.await_revocations and not self.revocations.told:
            return "revocations are not known yet"
        return None

    async def drain(self) -> bool:
        """Let the devices go elsewhere and the streams end; returns whether they all did within the grace."""
        drain = asyncio.create_task(self._drain.run(), name="drain")
        if self._settings.handover_timeout:
            # Told of every tunnel by now or soon, its readers find the relay that follows.
            await asyncio.sleep(_LAST_NEWS)
            self.events.close()
        return await drain

    def hurry(self) -> None:
        """End the grace of the drain."""
        self._drain.hurry()

    async def sweep(self) -> None:
        """What the reaper does now and then, now."""
        await self._reaper.sweep()

    async def _start(self) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        tunnels = TunnelListener(
            self.gate.admit,
            closed=self.gate.closed,
            respond=self._respond,
            config=TunnelConfig(
                yamux=YamuxConfig(
                    max_streams=settings.max_streams_per_tunnel,
                    session_window_budget=settings.session_memory_budget,
                    probe_interval=settings.probe_interval,
                    dead_after=settings.dead_after,
                ),
                stream_idle_timeout=settings.stream_idle_timeout or None,
            ),
            limits=HandshakeLimits(timeout=settings.handshake_timeout, max_head=settings.max_handshake_bytes),
            budget=self._budget,
            holdings=self._holdings,
            loop=loop,
        )
        listener = BoundedListener(tunnels, max_pending=settings.max_pending_handshakes)
        runner = web.AppRunner(
            ControlApi(
                store=self.store,
                revocations=self.revocations,
                events=self.events,
                authentication=self._authentication,
                not_ready=self.not_ready,
                expose=lambda accept: metrics.expose(self.registry, accept),
                log=self._log,
            ).application(),
            handle_signals=False,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        self._exit.push_async_callback(runner.cleanup)
        assert runner.server is not None
        connections = ConnectionListener(
            self.store,
            self._authentication,
            runner.server,
            ConnectionLimits(
                max_head=settings.max_head_bytes, timeout=settings.head_timeout, max_pending=settings.max_pending_heads
            ),
            holdings=self._holdings,
            loop=loop,
        )
        metrics = RelayMetrics(
            store=self.store,
            live=self.live,
            traffic=self._traffic,
            gate=self.gate,
            tunnel_listener=listener,
            connections=connections,
            revocations=self.revocations,
            events=self.events,
            budget=self._budget,
            holdings=self._holdings,
            limits=_limits(settings),
            draining=lambda: self._drain.started,
        )
        self.registry.register(metrics)

        internal_server = await self._listen(
            lambda: loop.create_server(
                connections,
                settings.internal_host,
                settings.internal_port,
                backlog=_BACKLOG,
                ssl=self._internal_tls,
                ssl_handshake_timeout=settings.head_timeout if self._internal_tls else None,
            )
        )
        self._exit.callback(connections.abort_pending)
        self._exit.callback(internal_server.close)
        tunnel_server = await self._listen(
            lambda: loop.create_server(
                listener,
                settings.tunnel_host,
                settings.tunnel_port,
                backlog=_BACKLOG,
                ssl=self._tunnel_tls,
                ssl_handshake_timeout=settings.handshake_timeout if self._tunnel_tls else None,
            )
        )
        self._exit.callback(tunnels.abort_all)
        self._exit.callback(tunnel_server.close)
        reaper = asyncio.create_task(self._reaper.run(), name="reaper")
        self._exit.push_async_callback(_cancel, reaper)
        # Last in, first out: readers of the feed are let go before aiohttp waits for them.
        self._exit.callback(self.events.close)

        if not self.name:
            self.name = f"{socket.gethostname()}:{tunnel_server.sockets[0].getsockname()[1]}"
        scheme = "wss" if self._tunnel_tls else "ws"
        self.tunnel_url = f"{scheme}://{_authority(tunnel_server)}/tunnel"
        scheme = "https" if self._internal_tls else "http"
        self.internal_url = f"{scheme}://{_authority(internal_server)}"

    async def _listen(self, listen: Callable[[], Awaitable[asyncio.Server]]) -> asyncio.Server:
        """Listen; where a relay may be about to hand over, wait for its port.

        Raises:
            OSError: the port cannot be had.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.handover_timeout
        told = False
        while True:
            try:
                server = await listen()
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE or loop.time() >= deadline:
                    raise
            else:
                self._servers.append(server)
                return server
            if not told:
                self._log.info("waiting for the ports", seconds=self._settings.handover_timeout)
                told = True
            await asyncio.sleep(_PORT_CHECKS)

    def _give_up_ports(self) -> None:
        """Listen no more, so that another relay can; the connections that there are stay."""
        for server in self._servers:
            server.close()

    def _respond(self, path: str) -> PlainAnswer | None:
        """Health of the tunnel port, for the load balancer in front of it."""
        if path == "/healthz":
            return PlainAnswer(status=200, body=b"ok\n")
        if path == "/readyz":
            reason = self.not_ready()
            return PlainAnswer(status=503 if reason else 200, body=f"{reason or 'ready'}\n".encode())
        return None


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _limits(settings: RelaySettings) -> dict[str, float]:
    """The settings that are limits, for the metric `homeport_relay_limit`."""
    return {
        name: float(getattr(settings, name))
        for name in (
            "buffer_budget",
            "failed_handshakes_burst",
            "failed_handshakes_per_second",
            "handshakes_burst",
            "handshakes_per_second",
            "max_events",
            "max_handshake_bytes",
            "max_head_bytes",
            "max_opens_per_second",
            "max_pending_handshakes",
            "max_pending_heads",
            "max_streams_per_tunnel",
            "max_tunnels",
            "memory_budget",
            "session_memory_budget",
        )
    }


def _authority(server: asyncio.Server) -> str:
    """Host and port of a URL that reaches the server from this machine."""
    host, port = server.sockets[0].getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
