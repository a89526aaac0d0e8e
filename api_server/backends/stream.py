"""A stream to a backend: one connection, over TLS or not, that carries HTTP/1.1 from its first byte on.

Over TLS the end of a connection is a message of its own (`close_notify`), because anybody on the way can make up a FIN.
A backend that ends without it has not said that its response is whole, and RFC 9112 section 9.8 has such an end
complete only what says its own length. uvloop tells of it by `connection_lost` without `eof_received` before, and so it
is a loss here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from api_server.streams import SocketStream, StreamKey, StreamPhase

__all__ = ["BackendStream"]


class BackendStream(SocketStream):
    """One connection to a backend. Made by `Backends`.

    Args:
        key: which backend.
    """

    __slots__ = ("_released",)

    _was_reset: ClassVar[str] = "the backend reset the connection"

    def __init__(self, key: StreamKey) -> None:
        super().__init__(key)
        self._released: Callable[[], None] | None = None

    def when_over(self, released: Callable[[], None]) -> None:
        """Call `released` once, when the connection is over; at once if it is."""
        if self.phase is StreamPhase.CLOSED:
            released()
        else:
            self._released = released

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        released, self._released = self._released, None
        if released is not None:
            released()
