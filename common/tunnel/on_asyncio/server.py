"""The relay's side of a tunnel on asyncio: from the first byte of a connection to an open tunnel."""

from __future__ import annotations

import asyncio
import time

from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.dialects import open_relay_tunnel
from common.tunnel.handshake import Admit, Closed, Respond
from common.tunnel.holdings import Holdings
from common.tunnel.on_asyncio.connection import SharedBufferConnection, as_transport, prepare_socket
from common.tunnel.server_handshake import Opened, ServerHandshake
from common.tunnel.turns import Turns
from common.tunnel.websocket import Side, WebSocketLink
from common.yamux import MemoryBudget

__all__ = ["TunnelListener"]

READ_SIZE = 256 * 1024
"""Bytes read at once at most, by one tunnel after another."""

LINGER = 1.0
"""Seconds that a refused peer has to read the answer and hang up. Closing at once, with bytes of it unread, would
reset the connection and might take the answer with it."""


class TunnelListener:
    """Protocol factory of a tunnel port: `await loop.create_server(listener, host, port, ssl=...)`.

    With `ssl`, give `create_server` an `ssl_handshake_timeout` too: the time of `limits` counts from the end of the TLS
    handshake.

    Args:
        admit: decides on each handshake.
        closed: refuses without a look at the request, as in a storm.
        respond: answers plain GETs on the port, such as `/healthz`.
        config: limits of the tunnels.
        limits: limits of the handshakes.
        budget: memory that all tunnels of the process share for their receive windows.
        holdings: counts and bounds what all tunnels of the process hold.
        loop: the loop it runs on; None for the running one.
    """

    def __init__(
        self,
        admit: Admit,
        *,
        closed: Closed | None = None,
        respond: Respond | None = None,
        config: TunnelConfig | None = None,
        limits: HandshakeLimits | None = None,
        budget: MemoryBudget | None = None,
        holdings: Holdings | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.admit = admit
        self.closed = closed
        self.respond = respond
        self.config = config if config is not None else TunnelConfig()
        self.limits = limits if limits is not None else HandshakeLimits()
        self.budget = budget
        self.holdings = holdings
        self.loop = loop if loop is not None else asyncio.get_running_loop()
        self.turns = Turns(self.loop.call_soon)
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._handshakes: set[HandshakeConnection] = set()
        self._tunnels: set[SharedBufferConnection] = set()

    def __repr__(self) -> str:
        return f"<TunnelListener handshaking={self.handshaking} tunnels={self.tunnels}>"

    def __call__(self) -> HandshakeConnection:
        """A protocol for one accepted connection. It does the handshake, hands the transport to the tunnel, and tells
        the admission's handler `tunnel_opened`.
        """
        return HandshakeConnection(self)

    @property
    def handshaking(self) -> int:
        """Connections that are no tunnel, or not yet: for a limit and a metric."""
        return len(self._handshakes)

    @property
    def tunnels(self) -> int:
        """Open tunnels, closing ones included."""
        return len(self._tunnels)

    def abort_all(self) -> None:
        """Cut every connection of this listener, handshakes included, without a word: the end of a drain's grace."""
        for handshake in list(self._handshakes):
            handshake.abort()
        for tunnel in list(self._tunnels):
            tunnel.abort()

    def handshake_began(self, connection: HandshakeConnection) -> None:
        """Count a connection."""
        self._handshakes.add(connection)

    def handshake_over(self, connection: HandshakeConnection) -> None:
        """Count it no more."""
        self._handshakes.discard(connection)

    def open(self, opened: Opened, transport: asyncio.Transport) -> None:
        """Make a tunnel of a connection whose handshake is done."""
        core, _ = open_relay_tunnel(
            opened.subprotocol,
            WebSocketLink(
                Side.SERVER,
                max_frame=self.config.max_link_frame,
                frames_per_second=self.config.link_frames_per_second,
                frames_burst=self.config.link_frames_burst,
            ),
            opened.handler,
            config=self.config,
            clock=time.monotonic,
            budget=self.budget,
        )
        if self.holdings is not None:
            core.count_into(self.holdings)
        core.take_turns(self.turns, opened.team)
        connection = SharedBufferConnection(core, transport, self.loop, self._tunnels.discard, buffer=self._buffer)
        self._tunnels.add(connection)
        connection.begin(opened.rest)


class HandshakeConnection(asyncio.Protocol):
    """One connection of a listener, until it is a tunnel or closed."""

    __slots__ = ("_handshake", "_listener", "_timer", "_transport")

    def __init__(self, listener: TunnelListener) -> None:
        self._listener = listener
        self._handshake: ServerHandshake | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        """Cut the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener = self._listener
        self._transport = as_transport(transport)
        prepare_socket(transport)
        peer = transport.get_extra_info("peername")
        self._handshake = ServerHandshake(
            listener.admit,
            closed=listener.closed,
            respond=listener.respond,
            limits=listener.limits,
            remote_address=_address(peer),
        )
        self._timer = listener.loop.call_later(listener.limits.timeout, self._time_over)
        listener.handshake_began(self)

    def data_received(self, data: bytes) -> None:
        if self._handshake is not None:
            self._handshake.receive(data)
            self._proceed(self._handshake)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- a handshake that broke is over
        self._leave()
        self._handshake = None

    def _time_over(self) -> None:
        if self._handshake is None:
            self.abort()
        else:
            self._handshake.timed_out()
            self._proceed(self._handshake)

    def _proceed(self, handshake: ServerHandshake) -> None:
        transport = self._transport
        if transport is None:
            return
        if output := handshake.take_output():
            transport.write(output)
        if handshake.opened is not None:
            self._handshake = None
            self._leave()
            self._listener.open(handshake.opened, transport)
        elif handshake.finished:
            self._handshake = None
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._listener.loop.call_later(LINGER, self._time_over)
            if transport.can_write_eof():
                transport.write_eof()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._listener.handshake_over(self)


def _address(peer: object) -> str:
    match peer:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case _:
            return str(peer or "")
