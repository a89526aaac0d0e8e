"""The link: one ordered byte stream each way, made of whatever carries it.

`TunnelCore` knows this interface and nothing of WebSocket. A later link may replay bytes over a new connection; nothing
above it would change.

A link never raises on what the peer sends: what came before a violation is returned, and `end` says that it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from common.tunnel.stream import Buffer

__all__ = ["Link", "LinkEnd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEnd:
    """Why a link takes and gives no more."""

    detail: str
    """For a log; quotes nothing the peer sent but its close reason."""
    reason: str
    """A `CloseReason`, the peer's own code, or the empty string."""
    by_peer: bool
    """Whether the peer closed it, rather than broke a rule."""


class Link(Protocol):
    """A byte stream each way. Time is passed in."""

    @property
    def end(self) -> LinkEnd | None:
        """Set once the peer closed the link or broke its rules; `receive` returns nothing from then on."""
        ...

    @property
    def has_output(self) -> bool:
        """Whether `control_to_send` has something."""
        ...

    def receive(self, data: bytes | memoryview, now: float) -> Sequence[Buffer]:
        """Take bytes of the connection; returns the pieces of the byte stream in them, in order, none empty.

        Args:
            data: bytes of the connection. Never changed afterwards, since the pieces may be views of them, unless the
                link promises to make bytes of their own.
            now: seconds on a monotonic clock, for the limit on control frames.
        """
        ...

    def encode(self, buffers: Sequence[Buffer], size: int) -> Sequence[Buffer]:
        """Bytes of the connection that carry `buffers`.

        Args:
            buffers: pieces of the byte stream, at least one byte in all, never changed afterwards.
            size: their length together.
        """
        ...

    def control_to_send(self) -> Sequence[Buffer]:
        """The link's own bytes that wait: answers to the peer's control frames, and the close."""
        ...

    def close(self, reason: str, *, violation: bool = False) -> None:
        """Queue the close; nothing may be encoded afterwards. Idempotent.

        Args:
            reason: a code for the peer, at most 100 ASCII characters.
            violation: the peer broke a rule above the link.
        """
        ...
