"""The gateway's limits and times: values, each with its default. There is no total time for anything that flows."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec

__all__ = ["GatewayLimits", "Network"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_KIB = 1024


class GatewayLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway allows. Times are seconds, sizes bytes."""

    # The client's side

    max_connections: int = 20_000
    """Clients at a time; one more is answered 503."""
    max_head_bytes: int = 64 * _KIB
    """A request head, and a response head."""
    max_target_bytes: int = 16 * _KIB
    max_fields: int = 128
    """Header lines of a head."""
    max_body_bytes: int = 0
    """A request body; 0 for no limit."""
    max_ahead_bytes: int = 64 * _KIB
    """Pipelined requests that are held while the one before them is answered."""
    header_timeout: float = 10.0
    """From the first byte of a request head, or from the connection's start, to the head's end."""
    keepalive_timeout: float = 75.0
    """From one response to the next request."""
    linger_timeout: float = 2.0
    """How long a client that is being refused may go on sending before its connection is cut."""

    # The service's side

    open_timeout: float = 10.0
    """Until the agent has connected to the service."""
    service_timeout: float = 120.0
    """From the end of a request, or the last that was sent of it, to the first byte of its response."""
    unsafe_reuse: float = 1.0
    """How long a stream may have been idle to carry a request that must not be sent twice; a longer idle one may
    just have been closed by the service, and the request would fail. Servers keep connections for 2 s or more."""
    max_informational: int = 16
    """1xx responses before the final one."""

    # Both

    stream_idle_timeout: float = 3600.0
    """Time without a byte either way, once a body or a raw connection flows."""
    half_closed_timeout: float = 5.0
    """Time without a byte of the response to a client that has ended its side. It may be waiting, and it may be gone:
    TCP does not tell until something is sent to it."""
    websocket_ping_interval: float = 30.0
    """Of raw TCP over WebSocket, for the middleboxes on the way."""
    high_water_bytes: int = 256 * _KIB
    """Bytes that wait for a client before the service is told to pause; it goes on at a quarter of them."""

    trusted_proxies: Sequence[Network] = ()
    """Reverse proxies in front of the gateway whose `X-Forwarded-*` are believed."""
