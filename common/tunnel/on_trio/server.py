"""The relay's side of a tunnel on trio: for deterministic simulation, where the relay itself runs on asyncio."""

from __future__ import annotations

import trio

from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.dialects import open_relay_tunnel
from common.tunnel.errors import TunnelLostError
from common.tunnel.handshake import Admit, Respond
from common.tunnel.on_trio.connection import run_connection
from common.tunnel.on_trio.transport import Transport, receive, send_all
from common.tunnel.server_handshake import ServerHandshake
from common.tunnel.websocket import Side, WebSocketLink
from common.yamux import MemoryBudget

__all__ = ["serve_tunnel"]

LINGER = 1.0
"""Seconds that a refused peer has to read the answer and hang up; see `common.tunnel.on_asyncio.server`."""


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
    config = config if config is not None else TunnelConfig()
    limits = limits if limits is not None else HandshakeLimits()
    handshake = ServerHandshake(admit, respond=respond, limits=limits, remote_address=remote_address)
    try:
        with trio.move_on_after(limits.timeout) as in_time:
            await _shake_hands(handshake, transport)
        if in_time.cancelled_caught:
            handshake.timed_out()
        with trio.move_on_after(LINGER):
            await send_all(transport, handshake.take_output())
            if handshake.finished:
                await _wait_for_end(transport)
    except OSError:
        handshake.receive_eof()
    finally:
        if handshake.opened is None:
            await transport.aclose()
    if handshake.opened is None:
        return None
    opened = handshake.opened
    core, tunnel = open_relay_tunnel(
        opened.subprotocol,
        WebSocketLink(
            Side.SERVER,
            max_frame=config.max_link_frame,
            frames_per_second=config.link_frames_per_second,
            frames_burst=config.link_frames_burst,
        ),
        opened.handler,
        config=config,
        clock=trio.current_time,
        budget=budget,
    )
    await run_connection(core, transport, opened.rest)
    return tunnel.end


async def _shake_hands(handshake: ServerHandshake, transport: Transport) -> None:
    while handshake.opened is None and not handshake.finished:
        if data := await receive(transport):
            handshake.receive(data)
        else:
            handshake.receive_eof()


async def _wait_for_end(transport: Transport) -> None:
    while await receive(transport):
        pass
