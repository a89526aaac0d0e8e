"""The device's side of the handshake, without I/O: what to send, and what the answer means."""

from __future__ import annotations

import email.utils
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.http11 import Response
from websockets.typing import Subprotocol as OfferedSubprotocol
from websockets.uri import WebSocketURI, parse_uri

from common.secret import Secret
from common.tunnel.config import HandshakeLimits
from common.tunnel.dial import DIAL_HEADER, Dial
from common.tunnel.errors import HandshakeError, HandshakeFailedError, HandshakeRefusedError
from common.tunnel.interfaces import Subprotocol
from common.tunnel.server_handshake import SILENT

__all__ = ["ClientHandshake", "ClientOpened", "parse_tunnel_url"]

_HEAD_END: Final = b"\r\n\r\n"
_MAX_RETRY_AFTER: Final = 86_400.0
"""Seconds; a relay that asks for more is mistaken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOpened:
    """The relay agreed."""

    subprotocol: Subprotocol
    rest: bytes
    """What came after the head."""


def parse_tunnel_url(url: str) -> WebSocketURI:
    """The parts of a relay's URL.

    Raises:
        HandshakeFailedError: it is no `ws://` or `wss://` URL, or holds a user name: a credential belongs in no URL.
    """
    try:
        parsed = parse_uri(url)
    except (InvalidURI, ValueError) as exc:
        raise HandshakeFailedError("the relay's URL is no ws:// or wss:// URL") from exc
    if parsed.user_info is not None:
        raise HandshakeFailedError("the relay's URL holds a user name or password; the session token is the credential")
    return parsed


class ClientHandshake:
    """One connection's handshake: send `request`, then feed `receive` until it returns something or raises.

    Args:
        url: of the relay.
        token: the session token.
        subprotocols: what to offer, best first.
        user_agent: name and version of the agent.
        dial: which of its dials this is; None leaves it unsaid.
        limits: caps on the answer; the shell keeps the time.
    """

    __slots__ = ("_buffer", "_head_done", "_limits", "_protocol", "_received", "request")

    def __init__(
        self,
        url: WebSocketURI,
        *,
        token: Secret,
        subprotocols: Sequence[Subprotocol],
        user_agent: str,
        dial: Dial | None = None,
        limits: HandshakeLimits,
    ) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._head_done = False
        self._received = 0
        self._protocol = ClientProtocol(
            url, subprotocols=[OfferedSubprotocol(subprotocol) for subprotocol in subprotocols], logger=SILENT
        )
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {token.reveal()}"
        request.headers["User-Agent"] = user_agent
        if dial is not None:
            request.headers[DIAL_HEADER] = str(dial)
        self.request = request.serialize()
        """Bytes to send first."""

    def receive(self, data: bytes) -> ClientOpened | None:
        """Take bytes of the connection; None while the answer is not whole.

        Raises:
            HandshakeRefusedError: the relay said no.
            HandshakeFailedError: this is no relay, or its answer is broken or too long.
        """
        if self._head_done:
            self._receive_body(data)
            return None
        buffer = self._buffer
        scanned = max(0, len(buffer) - len(_HEAD_END) + 1)
        buffer += data
        end = buffer.find(_HEAD_END, scanned)
        if not b"HTTP/1.1 ".startswith(buffer[:9]):
            raise HandshakeFailedError("the answer is not HTTP/1.1")
        if (len(buffer) if end < 0 else end + len(_HEAD_END)) > self._limits.max_head:
            raise HandshakeFailedError(f"the answer's head is over {self._limits.max_head} bytes")
        if end < 0:
            return None
        self._head_done = True
        end += len(_HEAD_END)
        head, rest = bytes(buffer[:end]), bytes(buffer[end:])
        buffer.clear()
        buffer += head[:12]  # the status, in case the body never ends
        self._protocol.receive_data(head)
        if head.startswith(b"HTTP/1.1 101"):
            return self._opened(rest)
        self._receive_body(rest)
        return None

    def receive_eof(self) -> HandshakeError:
        """The relay ended the connection; returns what that means."""
        if self._head_done:
            self._protocol.receive_eof()
            exc = self._protocol.handshake_exc
            if isinstance(exc, InvalidStatus):
                return _refusal(exc.response)
            return self._refusal_without_body()
        return HandshakeFailedError("the connection ended before the relay answered")

    def _opened(self, rest: bytes) -> ClientOpened:
        exc = self._protocol.handshake_exc
        if exc is not None:
            what = str(exc) if isinstance(exc, InvalidHandshake) else type(exc).__name__
            raise HandshakeFailedError(f"the answer is no WebSocket handshake: {what}") from exc
        subprotocol = self._protocol.subprotocol
        if subprotocol is None:
            raise HandshakeFailedError("the answer names no subprotocol; this is no Homeport relay")
        return ClientOpened(subprotocol=Subprotocol(subprotocol), rest=rest)

    def _receive_body(self, data: bytes) -> None:
        self._received += len(data)
        self._protocol.receive_data(data)
        exc = self._protocol.handshake_exc
        if isinstance(exc, InvalidStatus):
            raise _refusal(exc.response) from exc
        if exc is not None:
            raise HandshakeFailedError("the answer cannot be read") from exc
        if self._received > self._limits.max_body:
            raise self._refusal_without_body()

    def _refusal_without_body(self) -> HandshakeError:
        status = bytes(self._buffer[9:12])
        if not status.isdigit():
            return HandshakeFailedError("the answer cannot be read")
        return HandshakeRefusedError(f"HTTP {status.decode()} without a reason", http_status=int(status), reason="")


def _refusal(response: Response) -> HandshakeRefusedError:
    status = response.status_code
    problem = _problem(response)
    reason = problem.get("code")
    detail = problem.get("detail") or problem.get("title")
    return HandshakeRefusedError(
        detail[:1024] if isinstance(detail, str) else f"HTTP {status}",
        http_status=status,
        reason=reason[:128] if isinstance(reason, str) else "",
        retry_after=_retry_after(response),
    )


def _problem(response: Response) -> dict[str, Any]:
    """The problem+json object in an answer, or an empty one: a proxy on the way answers as it likes."""
    try:
        problem = json.loads(bytes(response.body))
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _retry_after(response: Response) -> float | None:
    """Seconds named by `Retry-After` (RFC 9110 section 10.2.3); a date counts from the answer's own `Date`."""
    values = response.headers.get_all("Retry-After")
    if not values:
        return None
    text = values[0].strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _MAX_RETRY_AFTER)
    dates = response.headers.get_all("Date")
    try:
        seconds = (
            email.utils.parsedate_to_datetime(text) - email.utils.parsedate_to_datetime(dates[0])
        ).total_seconds()
    except (ValueError, TypeError, IndexError):
        return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER)
