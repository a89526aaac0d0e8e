"""The control stream of `homeport.v1`: messages both ways for as long as the tunnel lives.

It is the device's first stream. When it ends before the tunnel does, or carries what is no message, the tunnel ends.
"""

from __future__ import annotations

from collections.abc import Callable

from common.tunnel.core import TunnelCore
from common.tunnel.interfaces import CloseReason
from common.tunnel.stream import Buffer
from common.tunnel.tunnel_stream import TunnelStream
from common.wire import Message, MessageReader, MessageSet, WireError, encode
from common.yamux.limits import RateLimit

__all__ = ["ControlStream"]


class ControlStream:
    """Sink of the control stream.

    Args:
        core: of the tunnel.
        known: what the peer may say.
        on_message: told each message, in order.
    """

    __slots__ = ("_core", "_limit", "_on_message", "_reader", "_waiting", "paused", "stream")

    def __init__(self, core: TunnelCore, known: MessageSet, on_message: Callable[[Message], None]) -> None:
        self._core = core
        self._reader = MessageReader(known)
        config = core.config
        self._limit = RateLimit(config.control_messages_per_second, config.control_messages_burst, core.now())
        self._on_message = on_message
        self._waiting: dict[str, bytes] = {}
        self.paused = False
        """Whether more waits for the peer than the high-water mark allows."""
        self.stream: TunnelStream | None = None

    def attach(self, stream: TunnelStream) -> None:
        """Say which stream it is."""
        self.stream = stream
        stream.sink = self
        stream.is_control = True

    def send(self, message: Message, *, optional: bool = False) -> None:
        """Send a message; while the peer does not read, only the newest of each type is kept."""
        data = encode(message, optional=optional)
        if self.stream is None or self.paused:
            self._waiting[message.TYPE] = data
        else:
            self.stream.write(data)

    def flush(self) -> None:
        """Send what was kept."""
        waiting, self._waiting = self._waiting, {}
        if self.stream is not None:
            for data in waiting.values():
                self.stream.write(data)

    def let_go(self) -> None:
        """The tunnel is over: nobody is told anything any more, nor held for it."""
        self._on_message = _ignore

    # StreamSink

    def data_received(self, data: Buffer) -> None:
        try:
            for message in self._reader.receive(data):
                if not self._limit.take(self._core.now()):
                    self._core.violated("too many messages on the control stream", CloseReason.LIMIT)
                    return
                self._on_message(message)
        except WireError as error:
            self._core.violated(f"the control stream carried no message: {error.detail}")

    def eof_received(self) -> None:
        self._core.violated("the peer ended the control stream")

    def connection_lost(self, exc: Exception | None) -> None:
        self._core.violated(f"the peer ended the control stream: {exc}")

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.flush()


def _ignore(message: Message) -> None: ...
