"""The device's side of a tunnel on asyncio: for tests, benchmarks and light agents."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence

from common.secret import Secret
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.interfaces import DeviceHandler, DeviceTunnel, Subprotocol
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
    ...
