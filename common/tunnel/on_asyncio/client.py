"""The device's side of a tunnel on asyncio: for tests, benchmarks and light agents."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping, Sequence

from websockets.uri import WebSocketURI

from common.secret import Secret
from common.tunnel.client_handshake import ClientHandshake, ClientOpened, parse_tunnel_url
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.dial import Dial
from common.tunnel.dialects import open_device_tunnel
from common.tunnel.errors import HandshakeFailedError, TunnelError
from common.tunnel.interfaces import DeviceHandler, DeviceTunnel, Subprotocol
from common.tunnel.on_asyncio.connection import TunnelConnection, as_transport, prepare_socket
from common.tunnel.proxy import ConnectHandshake, Proxy, proxy_for
from common.tunnel.websocket import Side, WebSocketLink
from common.wire.messages import DeviceHello
from common.yamux import MemoryBudget

__all__ = ["connect_tunnel"]


async def connect_tunnel(
    url: str,
    handler: DeviceHandler,
    *,
    token: Secret,
    hello: DeviceHello,
    subprotocols: Sequence[Subprotocol] = (Subprotocol.HOMEPORT_V1,),
    dial: Dial | None = None,
    config: TunnelConfig | None = None,
    limits: HandshakeLimits | None = None,
    budget: MemoryBudget | None = None,
    ssl_context: ssl.SSLContext | None = None,
    environ: Mapping[str, str] | None = None,
) -> DeviceTunnel:
    """Dial a relay and return once the tunnel is open.

    Args:
        url: `ws://` or `wss://` URL of the relay's tunnel port.
        handler: gets the tunnel's callbacks; `tunnel_opened` has been called when this returns.
        token: the session token.
        hello: what the device says first (`homeport.v1`).
        subprotocols: what to offer.
        dial: which of this agent's dials it is; None leaves it unsaid.
        config: limits of the tunnel.
        limits: limits of the handshake; its timeout covers everything from the TCP connection on.
        budget: memory shared with other tunnels.
        ssl_context: for `wss://`; None for the system's certificates.
        environ: where `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are looked up; None for no proxy.

    Raises:
        HandshakeRefusedError: the relay said no; see its `final` and `retry_after`.
        ProxyRefusedError: the HTTP proxy said no.
        HandshakeFailedError: no connection, no answer in time, or a broken one.
    """
    limits = limits if limits is not None else HandshakeLimits()
    config = config if config is not None else TunnelConfig()
    target = parse_tunnel_url(url)
    proxy = proxy_for(target, environ) if environ is not None else None
    loop = asyncio.get_running_loop()
    handshake = ClientHandshake(
        target, token=token, subprotocols=subprotocols, user_agent=hello.software, dial=dial, limits=limits
    )
    try:
        async with asyncio.timeout(limits.timeout):
            connection = await _dial(target, proxy, handshake, ssl_context)
            transport, opened = await connection.wait_opened()
    except TimeoutError as exc:
        raise HandshakeFailedError(f"no tunnel within {limits.timeout:g} s") from exc
    except (OSError, UnicodeError) as exc:  # TLS errors are OSErrors; a name that IDNA cannot write is the other
        raise HandshakeFailedError(f"no connection to {target.host}:{target.port}: {exc}") from exc
    core, tunnel = open_device_tunnel(
        opened.subprotocol,
        WebSocketLink(
            Side.CLIENT,
            max_frame=config.max_link_frame,
            frames_per_second=config.link_frames_per_second,
            frames_burst=config.link_frames_burst,
        ),
        handler,
        hello=hello,
        config=config,
        clock=time.monotonic,
        budget=budget,
    )
    TunnelConnection(core, transport, loop).begin(opened.rest + connection.take_early())
    return tunnel


async def _dial(
    target: WebSocketURI, proxy: Proxy | None, handshake: ClientHandshake, ssl_context: ssl.SSLContext | None
) -> _DialingConnection:
    loop = asyncio.get_running_loop()
    context = (ssl_context or ssl.create_default_context()) if target.secure else None
    connection = _DialingConnection(handshake, loop)
    if proxy is None:
        await loop.create_connection(lambda: connection, target.host, target.port, ssl=context)
        return connection
    sock = await _connect_through(proxy, target)
    try:
        server_hostname = target.host if context is not None else None
        await loop.create_connection(lambda: connection, sock=sock, ssl=context, server_hostname=server_hostname)
    except BaseException:
        sock.close()
        raise
    return connection


async def _connect_through(proxy: Proxy, target: WebSocketURI) -> socket.socket:
    """A socket whose other end is the target, by CONNECT."""
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, address = (await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM))[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        connect = ConnectHandshake(proxy, target)
        await loop.sock_sendall(sock, connect.request)
        rest = None
        while rest is None:
            # Byte by byte at the end would be needed to leave the target's first bytes in the socket; none can come
            # before ours, in TLS or in HTTP.
            data = await loop.sock_recv(sock, 4096)
            if not data:
                raise connect.receive_eof()
            rest = connect.receive(data)
        if rest:
            raise HandshakeFailedError("the relay spoke before it was asked")
    except BaseException:
        sock.close()
        raise
    return sock


class _DialingConnection(asyncio.Protocol):
    """A connection until its handshake is done; then it keeps what comes until the tunnel takes over."""

    def __init__(self, handshake: ClientHandshake, loop: asyncio.AbstractEventLoop) -> None:
        self._handshake = handshake
        self._opened: asyncio.Future[ClientOpened] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._early = b""

    async def wait_opened(self) -> tuple[asyncio.Transport, ClientOpened]:
        """Wait for the relay's answer. The connection is cut if it is not yes, or nobody waits any more."""
        assert self._transport is not None
        try:
            return self._transport, await self._opened
        except BaseException:
            self._transport.abort()
            raise

    def take_early(self) -> bytes:
        """What came since the head."""
        early, self._early = self._early, b""
        return early

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = as_transport(transport)
        prepare_socket(transport)
        self._transport.write(self._handshake.request)

    def data_received(self, data: bytes) -> None:
        if self._opened.done():
            self._early += data
            return
        try:
            opened = self._handshake.receive(data)
        except TunnelError as exc:
            self._opened.set_exception(exc)
        else:
            if opened is not None:
                self._opened.set_result(opened)

    def eof_received(self) -> bool:
        if not self._opened.done():
            self._opened.set_exception(self._handshake.receive_eof())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._opened.done():
            detail = f"the connection broke: {exc}" if exc else "the connection ended before the relay answered"
            self._opened.set_exception(HandshakeFailedError(detail))
