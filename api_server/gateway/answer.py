"""A response on its way from a service to a client. Sans-I/O: the service's bytes in, the client's bytes out.

    heads ──1xx──> heads ──final──> body ──> complete
                     └──101──> upgraded: what follows is no HTTP

The client gets heads of the gateway's own making and the body as it was framed. For an HTTP/1.0 client chunks are taken
off, and the end of the connection is the end of the body.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Final

from api_server.gateway.cors import with_cors
from api_server.gateway.errors import BadResponseError
from api_server.gateway.fields import MalformedError
from api_server.gateway.framing import Body, ChunkedBody, EmptyBody, LengthBody, UntilClose
from api_server.gateway.limits import GatewayLimits
from api_server.gateway.requests import RequestHead
from api_server.gateway.responses import ResponseHead, ResponseReader, has_no_body
from common.clock import Clock
from common.tunnel.stream import Buffer

__all__ = ["Answer"]

_EMPTY: Final = EmptyBody()


class Answer:
    """The response to one request.

    Args:
        request: that it is the response to.
        reader: reads the heads.
        limits: of the gateway.
        clock: for the `Date` of a response that has none (RFC 9110 section 6.6.1).
    """

    __slots__ = (
        "_body",
        "_clock",
        "_informational",
        "_limits",
        "_partial",
        "_reader",
        "_request",
        "cors",
        "head",
        "persistent",
    )

    def __init__(self, request: RequestHead, reader: ResponseReader, limits: GatewayLimits, clock: Clock) -> None:
        self._request = request
        self._reader = reader
        self._limits = limits
        self._clock = clock
        self._partial = b""
        """A head that has not come whole."""
        self._informational = 0
        self._body: Body = _EMPTY
        self.cors: bytes | None = None
        """What the route says about CORS, in the place of the service; None where that says it itself."""
        self.head: ResponseHead | None = None
        """The final head, once it is passed on; or that of a 101."""
        self.persistent = False
        """Whether the client was told that its connection goes on."""

    @property
    def touched(self) -> bool:
        """Whether a single byte has come."""
        return self.head is not None or bool(self._partial) or self._informational > 0

    @property
    def upgraded(self) -> bool:
        """Whether the connection is no longer HTTP."""
        return self.head is not None and self.head.status == 101

    @property
    def complete(self) -> bool:
        """Whether its last byte was passed on."""
        return self.head is not None and self._body.complete

    @property
    def bounded(self) -> bool:
        """Whether it says itself where it ends; else the end of the stream is its end."""
        return self._body.bounded

    def feed(self, data: bytes, out: list[Buffer], *, persistent: bool) -> bytes:
        """Take bytes of the service.

        Args:
            data: what it sent.
            out: gets what the client shall be sent.
            persistent: whether the client's connection may go on after the response, if the response allows it.

        Returns:
            What follows the response: nothing, if the service is honest.

        Raises:
            BadResponseError: the response cannot be relied on; the client must not take it for complete.
        """
        at = 0
        if self.head is None:
            if self._partial:
                data = self._partial + data
            at = self._heads(data, out, persistent)
            if self.head is None:
                return b""
        try:
            end = self._body.feed(data, at, out)
        except MalformedError as exc:
            raise BadResponseError(f"the response body is malformed: {exc}") from exc
        return data[end:] if end < len(data) else b""

    def _heads(self, data: bytes, out: list[Buffer], persistent: bool) -> int:
        """Take heads; returns where in `data` the final one ends."""
        at = 0
        limit = self._limits.max_head_bytes
        while True:
            end = data.find(b"\r\n\r\n", at) + 4
            if end < 4:
                self._partial = data[at:]
                if len(self._partial) > limit:
                    raise BadResponseError(f"the response head is longer than {limit} bytes")
                return len(data)
            if end - at > limit:
                raise BadResponseError(f"the response head is longer than {limit} bytes")
            head = self._reader.read(data if end - at == len(data) else data[at:end])
            at = end
            if head.status >= 200 or head.status == 101:
                self._partial = b""
                out.append(self._upgrade(head) if head.status == 101 else self._final(head, persistent))
                self.head = head
                return at
            self._informational += 1
            if self._informational > self._limits.max_informational:
                raise BadResponseError("the service sends informational responses and no final one")
            # RFC 9110 section 15.2: a 1xx is passed on, but not to a client of HTTP/1.0, which does not know them.
            if self._request.http_1_1:
                out.append(head.lines + b"\r\n")

    def _upgrade(self, head: ResponseHead) -> bytes:
        if not self._request.fields.upgrade or not head.upgrade:
            raise BadResponseError("the service switches protocols without being asked to")
        return b"%bConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % (head.lines, head.upgrade)

    def _final(self, head: ResponseHead, persistent: bool) -> bytes:
        """The head as the client gets it; decides how the body goes on."""
        request = self._request
        length, chunked = head.framing
        if has_no_body(request.method, head.status):
            self._body = _EMPTY
        elif chunked:
            self._body = ChunkedBody(decode=not request.http_1_1)
            persistent = persistent and request.http_1_1
        elif length is not None:
            self._body = LengthBody(length) if length else _EMPTY
        else:
            self._body = UntilClose()
            persistent = False
        self.persistent = persistent
        if persistent and head.whole and request.http_1_1 and self.cors is None:
            return head.whole
        lines = [head.lines if self.cors is None else with_cors(head.lines, self.cors)]
        if head.status != 204:  # RFC 9110 section 8.6, RFC 9112 section 6.1: neither belongs there
            if length is not None:
                lines.append(b"Content-Length: %d\r\n" % length)
            elif chunked and request.http_1_1:
                lines.append(b"Transfer-Encoding: chunked\r\n")
        if not head.has_date:
            lines.append(b"Date: %b\r\n" % formatdate(self._clock.wall(), usegmt=True).encode("ascii"))
        if head.upgrade:
            lines.append(b"Upgrade: %b\r\n" % head.upgrade)
        options = [
            *([] if persistent else [b"close"]),
            *([b"keep-alive"] if persistent and not request.http_1_1 else []),
            *([b"Upgrade"] if head.upgrade else []),
        ]
        lines.append(b"Connection: %b\r\n\r\n" % b", ".join(options) if options else b"\r\n")
        return b"".join(lines)
