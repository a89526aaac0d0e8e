"""What happened to a tunnel or an open, in the words of the session store; and what of a device's own words goes on."""

from __future__ import annotations

from common.sessions.errors import (
    DrainingError,
    OverCapacityError,
    ServiceRefusedError,
    ServiceTimeoutError,
    SessionNotFoundError,
    SessionStoreError,
)
from common.tunnel.errors import (
    OpenLimitError,
    OpenRefusedError,
    OpenTimeoutError,
    TunnelDrainingError,
    TunnelError,
    TunnelLostError,
)
from common.tunnel.interfaces import CloseReason
from common.wire.messages import OpenRefusal

__all__ = ["as_session_error", "close_reason", "printable"]

_OWN_REASONS = frozenset(CloseReason) | {"network"}
"""Why a tunnel ends, in the words of this relay."""


def as_session_error(error: TunnelError) -> SessionStoreError:
    """Why a stream did not open."""
    detail = printable(error.detail)
    match error:
        case OpenRefusedError(reason=OpenRefusal.TIMEOUT) | OpenTimeoutError():
            return ServiceTimeoutError(detail)
        case OpenRefusedError(reason=OpenRefusal.DRAINING) | TunnelDrainingError():
            return DrainingError(detail, retry_after=1.0)
        case OpenRefusedError(reason=OpenRefusal.OVER_CAPACITY) | OpenLimitError():
            return OverCapacityError(detail, retry_after=error.retry_after or 1.0)
        case TunnelLostError():
            return SessionNotFoundError(f"the tunnel was lost: {detail}")
        case _:
            return ServiceRefusedError(detail)


def close_reason(error: TunnelError) -> str:
    """Why a tunnel ended: a code that is ours. What a device gives as its reason is not repeated to others, nor does
    it become the label of a metric.
    """
    if not isinstance(error, TunnelLostError):
        return "network"
    if error.by_peer:
        return "closed_by_device"
    if error.reason == "silence":
        return "dead"
    return error.reason if error.reason in _OWN_REASONS else "other"


def printable(text: str) -> str:
    """Text of a device without control characters: it is shown on terminals."""
    return "".join(character if character.isprintable() else "?" for character in text)
