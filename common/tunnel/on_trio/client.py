"""The device's side of a tunnel on trio: dial, handshake, and the tunnel's life in one call."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio
from websockets.uri import WebSocketURI

from common.secret import Secret
from common.tunnel.client_handshake import ClientHandshake, ClientOpened, parse_tunnel_url
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.dial import Dial
from common.tunnel.dialects import open_device_tunnel
from common.tunnel.errors import HandshakeFailedError, TunnelLostError
from common.tunnel.interfaces import DeviceHandler, Subprotocol
from common.tunnel.on_trio.connection import run_connection
from common.tunnel.on_trio.tls import TLSTransport
from common.tunnel.on_trio.transport import SocketTransport, Transport, receive, send_all
from common.tunnel.proxy import ConnectHandshake, Proxy, proxy_for
from common.tunnel.websocket import Side, WebSocketLink
from common.wire.messages import DeviceHello
from common.yamux import MemoryBudget

__all__ = ["Connect", "connect_tcp", "run_client_tunnel"]

Connect = Callable[[str, int], Awaitable[Transport]]
"""Opens a connection to a host and a port; raises `OSError` when there is none. May be cancelled."""


async def connect_tcp(host: str, port: int) -> Transport:
    """A TCP connection; the addresses of a name are tried as RFC 8305 says.

    Raises:
        OSError: there is none.
    """
    stream = await trio.open_tcp_stream(host, port)
    # trio dialled; from here on the socket is the standard library's, since `Transport` waits for readiness itself.
    return SocketTransport(socket.socket(fileno=stream.socket.detach()))


async def run_client_tunnel(
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
    connect: Connect = connect_tcp,
    transport: Transport | None = None,
) -> TunnelLostError:
    """Dial a relay and run the tunnel until it ends.

    `handler.tunnel_opened(tunnel)` is called after the handshake; the tunnel and its streams may be used from any task
    of this trio run while this call lasts. Cancelling the call cuts the tunnel: every stream is lost. For a graceful
    end, call `tunnel.drain()` and then `tunnel.close()`; this call returns when the peer has answered the close.

    Args:
        url: `ws://` or `wss://` URL of the relay's tunnel port.
        handler: gets the tunnel's callbacks.
        token: the session token.
        hello: what the device says first (`homeport.v1`).
        subprotocols: what to offer.
        dial: which of this agent's dials it is; None leaves it unsaid.
        config: limits of the tunnel.
        limits: limits of the handshake; its timeout covers everything from the TCP connection on.
        budget: memory shared with other tunnels.
        ssl_context: for `wss://`; None for the system's certificates.
        environ: where `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are looked up; None for no proxy.
        connect: how to reach the relay, or the proxy; proxy and TLS are spoken over what it gives.
        transport: a connection to use instead of dialling; for tests over memory.

    Returns:
        Why an open tunnel ended: the same object that `handler.tunnel_closed` got.

    Raises:
        HandshakeRefusedError: the relay said no; see its `final` and `retry_after`.
        ProxyRefusedError: the HTTP proxy said no.
        HandshakeFailedError: no connection, no answer in time, or a broken one.
    """
    limits = limits if limits is not None else HandshakeLimits()
    config = config if config is not None else TunnelConfig()
    target = parse_tunnel_url(url)
    proxy = proxy_for(target, environ) if environ is not None else None
    handshake = ClientHandshake(
        target, token=token, subprotocols=subprotocols, user_agent=hello.software, dial=dial, limits=limits
    )
    opened: ClientOpened | None = None
    try:
        with trio.fail_after(limits.timeout):
            if transport is None:
                transport = await _dial(target, proxy, ssl_context, connect)
            opened = await _shake_hands(handshake, transport)
    except trio.TooSlowError as exc:
        raise HandshakeFailedError(f"no tunnel within {limits.timeout:g} s") from exc
    except (OSError, UnicodeError) as exc:  # TLS errors are OSErrors; a name that IDNA cannot write is the other
        raise HandshakeFailedError(f"no connection to {target.host}:{target.port}: {_reason(exc)}") from exc
    finally:
        if opened is None and transport is not None:
            await transport.aclose()
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
        clock=trio.current_time,
        budget=budget,
    )
    await run_connection(core, transport, opened.rest)
    assert tunnel.end is not None  # `run_connection` ends the tunnel, whatever happens
    return tunnel.end


def _reason(exc: Exception) -> str:
    """Why a dial failed. trio says only that all attempts did, and keeps each one's reason in a group."""
    if isinstance(exc.__cause__, ExceptionGroup):
        return "; ".join(dict.fromkeys(str(each) for each in exc.__cause__.exceptions))
    return str(exc)


async def _dial(
    target: WebSocketURI, proxy: Proxy | None, ssl_context: ssl.SSLContext | None, connect: Connect
) -> Transport:
    """A connection to the relay, TLS included."""
    host, port = (target.host, target.port) if proxy is None else (proxy.host, proxy.port)
    transport = await connect(host, port)
    try:
        if proxy is not None:
            await _connect_through(ConnectHandshake(proxy, target), transport)
        if target.secure:
            context = ssl_context if ssl_context is not None else ssl.create_default_context()
            transport = tls = TLSTransport(transport, context, server_hostname=target.host)
            await tls.handshake()
    except BaseException:
        await transport.aclose()
        raise
    return transport


async def _connect_through(connect: ConnectHandshake, transport: Transport) -> None:
    """Have the proxy connect us to the target."""
    await send_all(transport, connect.request)
    rest = None
    while rest is None:
        data = await receive(transport)
        if not data:
            raise connect.receive_eof()
        rest = connect.receive(data)
    if rest:
        raise HandshakeFailedError("the relay spoke before it was asked")


async def _shake_hands(handshake: ClientHandshake, transport: Transport) -> ClientOpened:
    await send_all(transport, handshake.request)
    while True:
        data = await receive(transport)
        if not data:
            raise handshake.receive_eof()
        opened = handshake.receive(data)
        if opened is not None:
            return opened
