"""The relay's side of the handshake, without I/O: from the first byte of a connection to an open tunnel or a refusal.

`GET /tunnel` with `Authorization: Bearer`, a WebSocket upgrade (RFC 6455 section 4.2) and a subprotocol that we speak.
Other GETs on the port are answered by a function, such as `/healthz`; everything else is refused.

    status  code                          when
    400     invalid_request               no HTTP request, or one with a body
    400     invalid_handshake             a header of the WebSocket handshake is missing or wrong
    400     subprotocol_required          none of our subprotocols was offered
    401     missing_session_token         no `Authorization: Bearer`
    404     not_found                     another path
    405     method_not_allowed            not GET
    408     handshake_timeout             the head was not whole in time
    414     request_line_too_long
    426     upgrade_required              no WebSocket upgrade, or another version than 13
    431     head_too_large                more than `HandshakeLimits.max_head`, or a line of more than 8 KiB
    500     internal_error                `admit` raised
    505     http_version_not_supported    HTTP/1.0
    and what `admit` refuses with. All are problem+json (RFC 9457), and the connection is closed after them.
"""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeader,
    InvalidMethod,
    InvalidProtocol,
    InvalidUpgrade,
    NegotiationError,
    RequestLineTooLong,
    TooManyHeaders,
)
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol as OfferedSubprotocol

from common.secret import Secret
from common.tunnel.config import HandshakeLimits
from common.tunnel.handshake import TUNNEL_PATH, Admit, Closed, HandshakeRequest, PlainAnswer, Refusal, Respond
from common.tunnel.interfaces import RelayHandler, Subprotocol

__all__ = ["SILENT", "Opened", "ServerHandshake"]

logger = logging.getLogger("homeport.tunnel")

SILENT: Final = logging.Logger("websockets.silent", level=logging.CRITICAL + 1)  # noqa: LOG001 -- not to be configured
"""For the library, which logs each header when its logger is at DEBUG: the token is one."""

MAX_TOKEN: Final = 4096
_HEAD_END: Final = b"\r\n\r\n"
_TUNNEL_REQUEST: Final = f"GET {TUNNEL_PATH} ".encode()
_METHOD: Final = re.compile(rb"[A-Z]{1,16}(?: |\Z)")
_BEARER: Final = re.compile(r"bearer +([!-~]+)", re.IGNORECASE | re.ASCII)
_SUBPROTOCOLS: Final = [OfferedSubprotocol(subprotocol) for subprotocol in Subprotocol]

_TITLES: Final = {
    "invalid_request": "Not an HTTP request",
    "invalid_handshake": "Not a WebSocket handshake",
    "subprotocol_required": "No subprotocol that this relay speaks",
    "missing_session_token": "A session token is required",
    "not_found": "Not found",
    "method_not_allowed": "Method not allowed",
    "handshake_timeout": "The request did not arrive in time",
    "request_line_too_long": "The request line is too long",
    "upgrade_required": "A WebSocket upgrade is required",
    "head_too_large": "The request head is too large",
    "internal_error": "Internal error",
    "http_version_not_supported": "HTTP/1.1 is required",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The tunnel is open once `output` has been sent."""

    subprotocol: Subprotocol
    handler: RelayHandler
    rest: bytes
    """What came after the head."""
    team: str = ""
    """As the admission says."""


class _RefusedError(Exception):
    """An answer other than 101; never leaves this module."""

    def __init__(self, refusal: Refusal, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal
        self.headers = headers


def _refused(status: HTTPStatus, code: str, detail: str, *headers: tuple[str, str]) -> _RefusedError:
    return _RefusedError(Refusal(status=status, code=code, title=_TITLES[code], detail=detail), headers)


class ServerHandshake:
    """One connection's handshake.

    Feed `receive` until `opened` is set or `finished` is true; send `take_output()` after each call. When `finished`,
    close the connection once the output is sent, reading on until the peer hangs up so that it sees the answer.

    Args:
        admit: decides.
        closed: asked first, when the head is whole and of a GET on the tunnel's path; None if that is never so.
        respond: answers plain GETs; None answers 404.
        limits: caps; the shell keeps the time and calls `timed_out`.
        remote_address: told to `admit`.
    """

    __slots__ = (
        "_admit",
        "_buffer",
        "_closed",
        "_limits",
        "_output",
        "_remote_address",
        "_respond",
        "finished",
        "opened",
    )

    def __init__(
        self,
        admit: Admit,
        *,
        closed: Closed | None = None,
        respond: Respond | None = None,
        limits: HandshakeLimits,
        remote_address: str,
    ) -> None:
        self._admit = admit
        self._closed = closed
        self._respond = respond
        self._limits = limits
        self._remote_address = remote_address
        self._buffer = bytearray()
        self._output = b""
        self.opened: Opened | None = None
        self.finished = False

    def receive(self, data: bytes) -> None:
        """Take bytes of the connection. Does nothing once `opened` or `finished`."""
        if self.finished or self.opened is not None:
            return
        buffer = self._buffer
        scanned = max(0, len(buffer) - len(_HEAD_END) + 1)
        buffer += data
        end = buffer.find(_HEAD_END, scanned)
        try:
            # Early, too: what cannot become a request is not waited for.
            if _METHOD.match(buffer) is None:
                raise _refused(HTTPStatus.BAD_REQUEST, "invalid_request", "the first bytes are no HTTP method")
            if (len(buffer) if end < 0 else end + len(_HEAD_END)) > self._limits.max_head:
                raise _refused(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "head_too_large",
                    f"{self._limits.max_head} bytes are read",
                )
            if end < 0:
                return
            if self._closed is not None and buffer.startswith(_TUNNEL_REQUEST):
                refusal = self._closed()
                if refusal is not None:
                    raise _RefusedError(refusal)
            end += len(_HEAD_END)
            self._answer(bytes(buffer[:end]), bytes(buffer[end:]))
        except _RefusedError as error:
            self._refuse(error.refusal, error.headers)
        self._buffer = bytearray()

    def receive_eof(self) -> None:
        """The peer ended the connection: there is nobody to answer to."""
        self.finished = True

    def timed_out(self) -> None:
        """The time for the head is over."""
        if not self.finished and self.opened is None:
            error = _refused(HTTPStatus.REQUEST_TIMEOUT, "handshake_timeout", f"{self._limits.timeout:g} s are given")
            self._refuse(error.refusal, ())

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished head that are held."""
        return len(self._buffer)

    def take_output(self) -> bytes:
        """What to send now."""
        output, self._output = self._output, b""
        return output

    def _answer(self, head: bytes, rest: bytes) -> None:
        protocol = ServerProtocol(subprotocols=_SUBPROTOCOLS, logger=SILENT)
        request = _parse(protocol, head)
        path = request.path.partition("?")[0]
        if path != TUNNEL_PATH:
            self._answer_plainly(request, path)
            return
        accept, subprotocol = _check_handshake(protocol, request)
        asked = HandshakeRequest(
            token=_token(request),
            subprotocol=subprotocol,
            headers=_other_headers(request),
            remote_address=self._remote_address,
        )
        try:
            decision = self._admit(asked)
        except Exception as exc:
            logger.exception("admitting a tunnel failed")
            raise _refused(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "see the relay's log") from exc
        if isinstance(decision, Refusal):
            raise _RefusedError(decision)
        self._output = (
            "HTTP/1.1 101 Switching Protocols\r\n"
            "Upgrade: websocket\r\n"
            "Connection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n"
            f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        ).encode("ascii")
        self.opened = Opened(subprotocol=subprotocol, handler=decision.handler, rest=rest, team=decision.team)

    def _answer_plainly(self, request: Request, path: str) -> None:
        if request.method not in ("GET", "HEAD"):
            raise _refused(
                HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "GET is served here", ("Allow", "GET, HEAD")
            )
        answer: PlainAnswer | None = None
        if self._respond is not None:
            try:
                answer = self._respond(path)
            except Exception as exc:
                logger.exception("answering a plain request failed")
                raise _refused(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "see the relay's log") from exc
        if answer is None:
            raise _refused(HTTPStatus.NOT_FOUND, "not_found", f"tunnels are opened on {TUNNEL_PATH}")
        body = b"" if request.method == "HEAD" else answer.body
        self._respond_with(answer.status, answer.content_type, body, len(answer.body), ())

    def _refuse(self, refusal: Refusal, headers: tuple[tuple[str, str], ...]) -> None:
        problem = {
            "type": f"urn:homeport:error:{refusal.code}",
            "title": refusal.title,
            "status": int(refusal.status),
            "code": refusal.code,
            "detail": refusal.detail or refusal.title,
        }
        if refusal.retry_after is not None:
            headers += (("Retry-After", str(math.ceil(max(refusal.retry_after, 0.0)))),)
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            headers += (("WWW-Authenticate", 'Bearer realm="homeport"'),)
        body = json.dumps(problem).encode()
        self._respond_with(refusal.status, "application/problem+json", body, len(body), headers)

    def _respond_with(
        self, status: int, content_type: str, body: bytes, length: int, headers: tuple[tuple[str, str], ...]
    ) -> None:
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = ""
        lines = [
            f"HTTP/1.1 {int(status)} {phrase}",
            f"Content-Type: {content_type}",
            f"Content-Length: {length}",
            "Cache-Control: no-store",
            "Connection: close",
            *(f"{name}: {value}" for name, value in headers),
        ]
        self._output = "\r\n".join(lines).encode("latin-1") + _HEAD_END + body
        self.finished = True


def _parse(protocol: ServerProtocol, head: bytes) -> Request:
    protocol.receive_data(head)
    for event in protocol.events_received():
        if isinstance(event, Request):
            return event
    exc = protocol.handshake_exc
    if isinstance(exc, RequestLineTooLong):
        raise _refused(HTTPStatus.REQUEST_URI_TOO_LONG, "request_line_too_long", "8 KiB are read") from exc
    if isinstance(exc, HeaderLineTooLong | TooManyHeaders):
        raise _refused(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "a line of 8 KiB, 128 lines are read"
        ) from exc
    cause = exc.__cause__ if exc is not None else None
    why = "it has a body" if isinstance(cause, NotImplementedError) else "it cannot be read"
    raise _refused(HTTPStatus.BAD_REQUEST, "invalid_request", why) from exc


def _check_handshake(protocol: ServerProtocol, request: Request) -> tuple[str, Subprotocol]:
    """The value of `Sec-WebSocket-Accept`, and what will be spoken."""
    try:
        accept, _extensions, subprotocol = protocol.process_request(request)
    except InvalidMethod as exc:
        raise _refused(
            HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "GET opens a tunnel", ("Allow", "GET")
        ) from exc
    except InvalidProtocol as exc:
        raise _refused(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "http_version_not_supported", "a WebSocket upgrade needs HTTP/1.1"
        ) from exc
    except InvalidUpgrade as exc:
        raise _refused(
            HTTPStatus.UPGRADE_REQUIRED,
            "upgrade_required",
            "a tunnel is a WebSocket",
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
        ) from exc
    except NegotiationError as exc:
        raise _refused(
            HTTPStatus.BAD_REQUEST, "subprotocol_required", f"offer one of {', '.join(Subprotocol)}"
        ) from exc
    except InvalidHandshake as exc:
        if isinstance(exc, InvalidHeader) and exc.name == "Sec-WebSocket-Version":
            # RFC 6455 section 4.4: say which version would do.
            raise _refused(
                HTTPStatus.UPGRADE_REQUIRED,
                "upgrade_required",
                "version 13 of WebSocket is spoken here",
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
            ) from exc
        header = exc.name if isinstance(exc, InvalidHeader) else "a header"
        raise _refused(HTTPStatus.BAD_REQUEST, "invalid_handshake", f"{header} is missing or wrong") from exc
    return accept, Subprotocol(subprotocol or "")


def _token(request: Request) -> Secret:
    values = request.headers.get_all("Authorization")
    if len(values) > 1:
        raise _refused(HTTPStatus.BAD_REQUEST, "invalid_handshake", "Authorization is given more than once")
    match = _BEARER.fullmatch(values[0].strip()) if values else None
    if match is None or len(match[1]) > MAX_TOKEN:
        raise _refused(
            HTTPStatus.UNAUTHORIZED,
            "missing_session_token",
            f"send `Authorization: Bearer` and a session token of at most {MAX_TOKEN} characters",
        )
    return Secret(match[1])


def _other_headers(request: Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.raw_items():
        name = name.lower()
        if name != "authorization":
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
