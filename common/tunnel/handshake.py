"""What is asked and answered before a tunnel opens. The two sides of it are in `server_handshake`, `client_handshake`.

The relay decides with one synchronous function, `Admit`, from what the device sent: it must not wait for anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.secret import Secret
from common.tunnel.interfaces import RelayHandler, Subprotocol

__all__ = ["TUNNEL_PATH", "Admission", "Admit", "Closed", "HandshakeRequest", "PlainAnswer", "Refusal", "Respond"]

TUNNEL_PATH = "/tunnel"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeRequest:
    """A well-formed WebSocket handshake on `GET /tunnel` with a bearer token and a subprotocol that we speak."""

    token: Secret
    """The session token, as sent, at most 4 KiB of ASCII; not checked."""
    subprotocol: Subprotocol
    """The first of our preference that the device offered; it is the one that will be answered."""
    headers: Mapping[str, str]
    """All headers but `Authorization`, names in lower case, repeated ones joined by a comma."""
    remote_address: str
    """`host:port` of the TCP peer, as text. A proxy in front puts its own here and the device's in a header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The tunnel may open."""

    handler: RelayHandler
    """Gets `tunnel_opened` as soon as the answer is written."""
    team: str = ""
    """Whose device it is: when the relay is busy, teams take turns, and in each its devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The tunnel may not open. Sent as problem+json (RFC 9457)."""

    status: int
    """401, 403, 409, 429, 503."""
    code: str
    """Stable, such as `invalid_session_token`, `session_token_expired`, `revoked`, `replaced`, `over_capacity`."""
    title: str
    detail: str = ""
    retry_after: float | None = None
    """Seconds; sent rounded up."""


Admit = Callable[[HandshakeRequest], Admission | Refusal]
"""If it raises, the device gets 500 `internal_error` and the error is logged."""


Closed = Callable[[], Refusal | None]
"""Why no handshake would be admitted now, whoever asks; None if one might. What it refuses is not read any further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainAnswer:
    """Answer to a plain GET on the tunnel's port, such as `/healthz`; the connection is closed after it."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


Respond = Callable[[str], PlainAnswer | None]
"""Answers a GET or HEAD that is no handshake, from its path without query; None is 404."""
