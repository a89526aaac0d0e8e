"""What a session may be told, with the reason of each default."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

__all__ = ["INITIAL_WINDOW", "MAX_STREAM_ID", "Config", "Role"]

INITIAL_WINDOW = 256 * 1024
"""Bytes each side may send on a new stream before it is granted more (yamux spec, "Flow Control")."""

MAX_STREAM_ID = 0xFFFF_FFFF


class Role(Enum):
    """Which ids are ours (yamux spec, "StreamID field")."""

    CLIENT = 1
    """Opens streams with odd ids. The device, in a tunnel."""
    SERVER = 2
    """Opens streams with even ids. The relay, in a tunnel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Limits and timings of a session. One object serves any number of sessions."""

    initial_window: int = INITIAL_WINDOW
    """Bytes of receive window a stream starts with; at least 256 KiB, which the protocol gives to every stream."""
    max_window: int = 8 * 1024 * 1024
    """Bytes that a receive window may grow to: 80 MiB/s at 100 ms."""
    session_window_budget: int = 64 * 1024 * 1024
    """Bytes by which all receive windows of the session together may exceed 256 KiB each."""
    max_streams: int = 1024
    """Live streams, opened by either side. The peer's are reset with LIMIT beyond it."""
    max_pending_opens: int = 256
    """Streams that we opened and the peer has not yet answered: hashicorp/yamux's accept backlog."""
    accept_backlog: int = 256
    """Streams that the peer opened and whose ACK we could not yet send; more are reset with LIMIT."""
    max_frame: int = 64 * 1024
    """Bytes of payload in a Data frame while one stream sends: 16 KiB frames cost a quarter of bulk throughput."""
    busy_frame: int = 16 * 1024
    """The same while several streams send, and the quantum of the round-robin."""
    control_frames_per_second: float = 100_000.0
    """Frames without payload that the peer may send. A short-lived stream takes three or four, and parsing as many as
    this takes about a tenth of a core."""
    control_frames_burst: int = 200_000
    """How many of them at once."""
    pings_per_second: float = 100.0
    """Pings that the peer may send; hashicorp/yamux sends one in 30 s, and one a call of `Ping()`."""
    pings_burst: int = 1_000
    """How many of them at once."""
    max_control_queue: int = 128 * 1024
    """Bytes of pongs and resets that may wait to be sent, all of them caused by the peer."""
    probe_interval: float = 5.0
    """Seconds of silence after which the peer is pinged."""
    dead_after: float = 15.0
    """Seconds of silence after which the peer is dead. Any byte is life."""
    rtt_interval: float = 30.0
    """Seconds between pings that measure the round trip while there is no silence to probe."""

    def __post_init__(self) -> None:
        if not INITIAL_WINDOW <= self.initial_window <= self.max_window <= 1 << 30:
            raise ValueError(
                f"windows need 256 KiB <= initial_window <= max_window <= 1 GiB, "
                f"not {self.initial_window} and {self.max_window}"
            )
        if not 1 <= self.busy_frame <= self.max_frame:
            raise ValueError(f"frames need 1 <= busy_frame <= max_frame, not {self.busy_frame} and {self.max_frame}")
        if not 0 < self.probe_interval < self.dead_after:
            raise ValueError(
                f"liveness needs 0 < probe_interval < dead_after, not {self.probe_interval} and {self.dead_after}"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name != "session_window_budget"):
                raise ValueError(f"{field.name} must be positive, not {value}")
