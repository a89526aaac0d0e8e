"""A stream to a device's service, as the gateway holds it: one TCP connection to the relay, raw after the upgrade.

    CONNECTING ──connection_made──> ASKED ──101──> OPEN ──both FINs──> CLOSED
                                      │              │
                                      └── refusal ───┴── reset, either way ──> CLOSED

What holds for the bytes and their ends is in `streams.stream`. Whoever needs half-close end to end lets gateway and
relay meet on a private network without TLS.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

import httptools

from api_server.relay.problems import error_from_answer
from api_server.streams import SocketStream, StreamPhase
from common.ids import ServiceName, SessionId
from common.sessions.errors import RelayUnavailableError
from common.tunnel.stream import StreamSink

__all__ = ["RelayStream", "StreamPhase"]

_MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer to the open that are read; a problem object has a few hundred."""

# A member of an enum is found by a descriptor, which costs more than a look into the module.
_CONNECTING, _ASKED, _OPEN, _CLOSED = StreamPhase


class _Answer:
    """Reads the relay's answer to the open; httptools calls the `on_` methods."""

    __slots__ = ("_parser", "_size", "body", "complete", "content_type", "retry_after")

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._size = 0
        self.body = b""
        self.content_type = ""
        self.retry_after = ""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self.content_type = value.decode("latin-1").strip()
        elif name == b"retry-after":
            self.retry_after = value.decode("latin-1").strip()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True

    @property
    def status(self) -> int:
        return self._parser.get_status_code()

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes of the answer.

        Returns:
            What follows a 101, once it is there; until then None.

        Raises:
            RelayUnavailableError: this is no answer of a relay.
        """
        self._size += len(data)
        # What follows a 101 comes in the same read and may be of any size; only an answer in pieces is counted.
        if len(data) < self._size > _MAX_ANSWER:
            raise RelayUnavailableError("the relay's answer to an open has no end")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if self.status != 101:
                raise RelayUnavailableError(f"the relay answered an open with status {self.status}") from exc
            return data[exc.args[0] :]
        except httptools.HttpParserError as exc:
            raise RelayUnavailableError("the relay's answer to an open is not HTTP/1.1") from exc
        return None


class RelayStream(SocketStream):
    """One stream to a service. Made by the `Forwarder`.

    Args:
        session_id: of the session that it leads to.
        service: of the device.
        request: the head that asks the relay for it, complete.
        answered: resolved with None when the stream is open, or with the error that says why not.
        sink: gets the bytes as soon as the stream is open; None to `attach` one later.
    """

    __slots__ = ("_answer", "_answered", "_request", "service", "session_id")

    _was_reset: ClassVar[str] = "the relay reset the stream"

    def __init__(
        self,
        session_id: SessionId,
        service: ServiceName,
        *,
        request: bytes,
        answered: asyncio.Future[None],
        sink: StreamSink | None = None,
    ) -> None:
        super().__init__((session_id, service), sink)
        self.session_id = session_id
        self.service = service
        self._request = request
        self._answered = answered
        self._answer: _Answer | None = _Answer()

    # asyncio.Protocol

    def _connected(self, transport: asyncio.Transport) -> None:
        self.phase = _ASKED
        transport.write(self._request)
        self._request = b""

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if self.phase is _OPEN and sink is not None:
            sink.data_received(data)
        elif self.phase is _ASKED:
            self._answer_received(data)
        elif self.phase is _OPEN:
            self._hold(data)

    def _never_opened(self) -> None:
        self._refuse(RelayUnavailableError("the relay closed the connection before it answered the open"))

    def _answer_received(self, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        try:
            early = answer.feed(data)
        except RelayUnavailableError as exc:
            self._refuse(exc)
            self.reset()
            return
        if early is not None:
            self._answer = None
            self.phase = _OPEN
            if not self._answered.done():
                self._answered.set_result(None)
            if early:
                self.data_received(early)
        elif answer.complete:
            self._refuse(error_from_answer(answer.status, answer.content_type, answer.body, answer.retry_after))
            if self._transport is not None:
                self._transport.close()

    def _refuse(self, error: Exception) -> None:
        self._answer = None
        if not self._answered.done():
            self._answered.set_exception(error)
