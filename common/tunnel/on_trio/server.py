"""The relay's side of a tunnel on trio: for deterministic simulation over memory streams."""

from __future__ import annotations

from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.errors import TunnelLostError
from common.tunnel.handshake import Admit, Respond
from common.tunnel.on_trio.transport import Transport
from common.yamux import MemoryBudget

__all__ = ["serve_tunnel"]


async def serve_tunnel(
    transport: Transport,
    admit: Admit,
    *,
    respond: Respond | None = None,
    config: TunnelConfig | None = None,
    limits: HandshakeLimits | None = None,
    budget: MemoryBudget | None = None,
    remote_address: str = "",
) -> TunnelLostError | None:
    """Do the handshake on an accepted connection, and run the tunnel until it ends.

    Args:
        transport: the connection; closed when this returns.
        admit: decides on the handshake.
        respond: answers plain GETs.
        config: limits of the tunnel.
        limits: limits of the handshake.
        budget: memory shared with other tunnels.
        remote_address: told to `admit`.

    Returns:
        Why the tunnel ended; None if none was opened (refused, answered plainly, broken or too slow).
    """
