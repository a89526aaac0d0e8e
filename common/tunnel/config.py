"""The limits of a tunnel, one frozen struct each for the life of a tunnel and for its handshake."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.yamux import Config as YamuxConfig

__all__ = ["HandshakeLimits", "TunnelConfig"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelConfig:
    """Limits of an open tunnel. The same object may serve any number of them."""

    yamux: YamuxConfig = field(default_factory=YamuxConfig)
    """Windows, streams, control frames, liveness."""
    high_water: int = 256 * KIB
    """Bytes that wait on one stream before its sink is told to `pause_writing`. A bandwidth-delay product of 1 Gbit/s
    and 2 ms; the kernel's buffer and the yamux window come on top."""
    low_water: int = 64 * KIB
    """Bytes at which `resume_writing` follows: one full frame, so that the link does not run dry meanwhile."""
    hello_timeout: float = 10.0
    """Seconds for the device to open the control stream and say hello (`homeport.v1`)."""
    close_timeout: float = 3.0
    """Seconds that the peer has to answer a WebSocket close, before the connection is cut."""
    stream_idle_timeout: float | None = None
    """Seconds without a byte either way after which a stream is reset with `TIMEOUT`, a quarter late at most; None for
    never."""
    control_messages_per_second: float = 20.0
    """Messages on the control stream that a peer may send over time; beyond, the tunnel is closed. One of 64 KiB costs
    half a millisecond to read."""
    control_messages_burst: int = 200
    link_frames_per_second: float = 100.0
    """WebSocket control frames and empty frames that a peer may send over time; beyond, the tunnel is closed."""
    link_frames_burst: int = 1000
    max_link_frame: int = 16 * MIB
    """Bytes of one WebSocket frame. Nothing is buffered for it, so this catches nonsense rather than guards memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeLimits:
    """Limits of a connection that is no tunnel yet."""

    timeout: float = 10.0
    """Seconds from the connection to the last byte of the request's head (or of the answer's, on the device), TLS
    included."""
    max_head: int = 16 * KIB
    """Bytes of a request's or answer's head."""
    max_body: int = 64 * KIB
    """Bytes of a refusal's body that the device reads."""
