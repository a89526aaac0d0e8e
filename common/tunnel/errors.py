"""Errors of a tunnel.

HomeportError
└── TunnelError                  the tunnel broke, or was used wrongly
    ├── HandshakeError           the tunnel never opened
    │   ├── HandshakeRefusedError    the relay answered with a refusal: status, code, Retry-After
    │   └── HandshakeFailedError     no answer, a broken one, or one of another protocol
    ├── TunnelLostError          an open tunnel ended: by the network, by silence, by a violation of the protocol
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
    "StreamLostError",
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
        reason: the stable code of the relay's problem+json answer.
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


class TunnelLostError(TunnelError):
    """An open tunnel ended."""

    code: ClassVar[str] = "tunnel_lost"
    title: ClassVar[str] = "The tunnel was lost"


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
