"""Errors of a tunnel.

HomeportError
└── TunnelError                  the tunnel broke, or was used wrongly
    ├── HandshakeError           the tunnel never opened
    │   ├── HandshakeRefusedError    the relay answered with a refusal: status, code, Retry-After
    │   ├── HandshakeFailedError     no answer, a broken one, or one of another protocol
    │   └── ProxyRefusedError        the HTTP proxy on the way did not let the tunnel through
    ├── OpenError                a stream to a service did not open
    │   ├── OpenRefusedError         the device refused, with a code
    │   ├── OpenTimeoutError         the device did not answer in time
    │   ├── OpenLimitError           a limit on streams is reached
    │   └── TunnelDrainingError      this end or the peer takes no more streams
    ├── TunnelLostError          an open tunnel ended: by either end, the network, silence, a violation of the protocol
    └── StreamLostError          one stream of it was reset; carries the ResetCode
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from common.errors import HomeportError

if TYPE_CHECKING:
    from common.tunnel.stream import ResetCode

__all__ = [
    "HandshakeError",
    "HandshakeFailedError",
    "HandshakeRefusedError",
    "OpenError",
    "OpenLimitError",
    "OpenRefusedError",
    "OpenTimeoutError",
    "ProxyRefusedError",
    "StreamLostError",
    "TunnelDrainingError",
    "TunnelError",
    "TunnelLostError",
]


class TunnelError(HomeportError):
    """Base of the tunnel's errors."""

    code: ClassVar[str] = "tunnel_error"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The tunnel failed"


class HandshakeError(TunnelError):
    """The tunnel never opened."""

    code: ClassVar[str] = "handshake_failed"
    title: ClassVar[str] = "The tunnel did not open"


class HandshakeRefusedError(HandshakeError):
    """The relay refused the handshake; final or not, by `http_status`.

    Args:
        detail: the relay's reason.
        http_status: 401 and 403 are final; 409, 429 and 503 may be tried again.
        reason: the stable code of the relay's problem+json answer, or the empty string.
        retry_after: seconds, when the relay named them.
    """

    code: ClassVar[str] = "handshake_refused"
    title: ClassVar[str] = "The relay refused the tunnel"

    def __init__(self, detail: str, *, http_status: int, reason: str, retry_after: float | None = None) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.http_status = http_status
        self.reason = reason

    @property
    def final(self) -> bool:
        """Whether dialling again with the same credential cannot succeed."""
        return self.http_status in (401, 403)


class HandshakeFailedError(HandshakeError):
    """No answer to the handshake, a broken one, or one of another protocol."""


class ProxyRefusedError(HandshakeError):
    """The HTTP proxy between device and relay did not let the tunnel through.

    Args:
        detail: what it said.
        http_status: its status; 407 wants other credentials.
    """

    code: ClassVar[str] = "proxy_refused"
    title: ClassVar[str] = "The HTTP proxy refused the tunnel"

    def __init__(self, detail: str, *, http_status: int) -> None:
        super().__init__(detail)
        self.http_status = http_status


class OpenError(TunnelError):
    """A stream to a service did not open."""

    code: ClassVar[str] = "open_failed"
    title: ClassVar[str] = "The stream did not open"


class OpenRefusedError(OpenError):
    """The device refused.

    Args:
        detail: the device's words, as sent.
        reason: an `OpenRefusal`, or another code of a later agent.
    """

    code: ClassVar[str] = "open_refused"
    title: ClassVar[str] = "The device refused the stream"

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail)
        self.reason = reason


class OpenTimeoutError(OpenError):
    """The device did not answer in time."""

    code: ClassVar[str] = "open_timeout"
    status: ClassVar[int] = 504
    title: ClassVar[str] = "The device did not answer in time"


class OpenLimitError(OpenError):
    """A limit on streams is reached."""

    code: ClassVar[str] = "open_limit"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Too many streams"


class TunnelDrainingError(OpenError):
    """This end or the peer takes no more streams."""

    code: ClassVar[str] = "tunnel_draining"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The tunnel is draining"


class TunnelLostError(TunnelError):
    """An open tunnel ended.

    Args:
        detail: what happened.
        reason: a `CloseReason`, `network`, `silence`, or the peer's own code.
        by_peer: whether the peer ended it on purpose.
    """

    code: ClassVar[str] = "tunnel_lost"
    title: ClassVar[str] = "The tunnel was lost"

    def __init__(self, detail: str = "", *, reason: str = "network", by_peer: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.by_peer = by_peer


class StreamLostError(TunnelError):
    """A stream was reset.

    Args:
        reset_code: why, as far as it is known.
        detail: shown to the caller.
    """

    code: ClassVar[str] = "stream_reset"
    title: ClassVar[str] = "The stream was reset"

    def __init__(self, reset_code: ResetCode, detail: str = "") -> None:
        super().__init__(detail or f"the stream was reset: {reset_code.name.lower()}")
        self.reset_code = reset_code
