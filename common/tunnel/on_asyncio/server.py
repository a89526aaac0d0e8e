"""The relay's side of a tunnel on asyncio: from the first byte of a connection to an open tunnel."""

from __future__ import annotations

import asyncio

from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.handshake import Admit, Respond
from common.yamux import MemoryBudget

__all__ = ["TunnelListener"]


class TunnelListener:
    """Protocol factory of a tunnel port: `await loop.create_server(listener, host, port, ssl=...)`.

    Args:
        admit: decides on each handshake.
        respond: answers plain GETs on the port, such as `/healthz`.
        config: limits of the tunnels.
        limits: limits of the handshakes.
        budget: memory that all tunnels of the process share for their receive windows.
        loop: the loop it runs on; None for the running one.
    """

    def __init__(
        self,
        admit: Admit,
        *,
        respond: Respond | None = None,
        config: TunnelConfig | None = None,
        limits: HandshakeLimits | None = None,
        budget: MemoryBudget | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None: ...

    def __call__(self) -> asyncio.Protocol:
        """A protocol for one accepted connection. It does the handshake, hands the transport to the tunnel, and tells
        the admission's handler `tunnel_opened`.
        """
        ...

    @property
    def handshaking(self) -> int:
        """Connections that are no tunnel yet: for a limit and a metric."""
        ...

    @property
    def tunnels(self) -> int:
        """Open tunnels, closing ones included."""
        ...

    def abort_all(self) -> None:
        """Cut every connection of this listener, handshakes included, without a word: the end of a drain's grace."""
