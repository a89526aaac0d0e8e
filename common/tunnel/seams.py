"""The two seams of `TunnelCore`: the shell below it, which owns the connection, and the owner above it, a dialect."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from common.tunnel.errors import TunnelLostError

if TYPE_CHECKING:
    from common.tunnel.tunnel_stream import TunnelStream

__all__ = ["NOBODY", "Owner", "Shell", "State"]


class State(Enum):
    """Where a tunnel is in its life; see the module."""

    OPEN = "open"
    CLOSING = "closing"
    FINISHED = "finished"


class Shell(Protocol):
    """What the core asks of the code that owns the connection."""

    def output_ready(self) -> None:
        """There is something to send or to settle: call `settle` and, if the connection takes bytes, `data_to_send`,
        soon. Called as often as something is added, so it must be cheap.
        """

    def deadline_moved(self, when: float) -> None:
        """Call `tick` at `when` already, earlier than it last said."""


class Owner(Protocol):
    """What the core asks of the dialect."""

    def stream_opened(self, stream: TunnelStream) -> None:
        """The peer opened a stream: give it a sink, or reset it."""

    def stream_over(self, stream: TunnelStream) -> None:
        """The stream has ended or was reset, and its sink was told."""

    def go_away_received(self) -> None:
        """The peer takes no new streams."""

    def tick(self, now: float) -> float | None:
        """Do what time demands; returns when to be called again, at the latest, or None."""

    def tunnel_lost(self, error: TunnelLostError) -> None:
        """The tunnel is over; the sinks of its streams were told."""


class _Nobody:
    """Owns a tunnel whose owner has been told that it is over."""

    __slots__ = ()

    def stream_opened(self, stream: TunnelStream) -> None: ...

    def stream_over(self, stream: TunnelStream) -> None: ...

    def go_away_received(self) -> None: ...

    def tick(self, now: float) -> None: ...

    def tunnel_lost(self, error: TunnelLostError) -> None: ...


NOBODY: Final = _Nobody()
