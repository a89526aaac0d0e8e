"""What the trio shell needs of a connection: non-blocking calls, and waiting for the moment they work again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from common.tunnel.stream import Buffer

__all__ = ["Transport"]


class Transport(Protocol):
    """A connection. The calls that do not wait raise `BlockingIOError` where they would have to, and `OSError` when the
    connection is broken.
    """

    def receive_nowait(self) -> bytes:
        """What has arrived, as bytes of their own; b"" at the end."""
        ...

    async def wait_readable(self) -> None:
        """Wait until `receive_nowait` may have something."""
        ...

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        """Send as much as the connection takes now; returns how many bytes of the buffers, in order."""
        ...

    async def wait_writable(self) -> None:
        """Wait until `send_nowait` may take something."""
        ...

    def send_eof(self) -> None:
        """Half-close, if the connection can; else nothing."""
        ...

    def close(self) -> None:
        """Close at once; tasks that wait get an error. Idempotent."""
        ...
