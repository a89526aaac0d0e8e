"""The device's side of a tunnel on trio: dial, handshake, and the tunnel's life in one call."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence

from common.secret import Secret
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.errors import TunnelLostError
from common.tunnel.interfaces import DeviceHandler, Subprotocol
from common.tunnel.on_trio.transport import Transport
from common.wire.messages import DeviceHello
from common.yamux import MemoryBudget

__all__ = ["run_client_tunnel"]


async def run_client_tunnel(
    url: str,
    handler: DeviceHandler,
    *,
    token: Secret,
    hello: DeviceHello,
    subprotocols: Sequence[Subprotocol] = (Subprotocol.HOMEPORT_V1,),
    config: TunnelConfig | None = None,
    limits: HandshakeLimits | None = None,
    budget: MemoryBudget | None = None,
    ssl_context: ssl.SSLContext | None = None,
    environ: Mapping[str, str] | None = None,
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
        config: limits of the tunnel.
        limits: limits of the handshake; its timeout covers everything from the TCP connection on.
        budget: memory shared with other tunnels.
        ssl_context: for `wss://`; None for the system's certificates.
        environ: where `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are looked up; None for no proxy.
        transport: a connection to use instead of dialling; for tests over memory.

    Returns:
        Why an open tunnel ended: the same object that `handler.tunnel_closed` got.

    Raises:
        HandshakeRefusedError: the relay said no; see its `final` and `retry_after`.
        ProxyRefusedError: the HTTP proxy said no.
        HandshakeFailedError: no connection, no answer in time, or a broken one.
    """
