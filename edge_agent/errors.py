"""Errors of the agent.

HomeportError
└── AgentError
    ├── ServiceSpecError         invalid_service      a service on the command line or in the file that cannot be read
    ├── RelayUrlError            invalid_relay_url    a relay URL that cannot be dialled, or must not be
    ├── TokenFileError           token_file           the session token cannot be read, or others can read it
    ├── TrustError               ca_file              the certificates to trust cannot be read
    └── TargetError                                   a stream that the relay asked for cannot be had; `code` goes back
        ├── UnknownServiceError      unknown_service      not on the list
        ├── TargetRefusedError       connection_refused   nobody listens
        ├── TargetTimeoutError       timeout              no answer in time
        ├── TargetUnreachableError   unreachable          no route, no such name, no permission
        ├── StreamLimitError         over_capacity        more streams, or descriptors, than the agent may use
        ├── StoppingError            draining             the agent takes no new streams
        └── UnhealthyError           unhealthy            it accepts connections, and does not answer as it should

A `TargetError` is answered to the relay and ends one stream; `UnhealthyError` is the outcome of a health check, and
ends nothing. The others end the process at its start, since no retry can mend them; later they are tried again. That no
tunnel could be opened is a `common.tunnel.errors.HandshakeError`.
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError
from common.wire.messages import OpenRefusal

__all__ = [
    "AgentError",
    "RelayUrlError",
    "ServiceSpecError",
    "StoppingError",
    "StreamLimitError",
    "TargetError",
    "TargetRefusedError",
    "TargetTimeoutError",
    "TargetUnreachableError",
    "TokenFileError",
    "TrustError",
    "UnhealthyError",
    "UnknownServiceError",
]


class AgentError(HomeportError):
    """Base of the agent's errors."""

    code: ClassVar[str] = "agent_error"
    title: ClassVar[str] = "The agent failed"


class ServiceSpecError(AgentError):
    """A service that cannot be read."""

    code: ClassVar[str] = "invalid_service"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The service cannot be read"


class RelayUrlError(AgentError):
    """A relay URL that cannot be dialled, or must not be."""

    code: ClassVar[str] = "invalid_relay_url"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The relay URL cannot be used"


class TokenFileError(AgentError):
    """The session token cannot be read, or others can read it."""

    code: ClassVar[str] = "token_file"
    title: ClassVar[str] = "The session token cannot be used"


class TrustError(AgentError):
    """The certificates to trust cannot be read."""

    code: ClassVar[str] = "ca_file"
    title: ClassVar[str] = "The certificates cannot be used"


class TargetError(AgentError):
    """A stream that the relay asked for cannot be had; `code` is what the relay is told."""

    code: ClassVar[str] = OpenRefusal.FAILED
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The service cannot be reached"


class UnknownServiceError(TargetError):
    """Not on the list."""

    code: ClassVar[str] = OpenRefusal.UNKNOWN_SERVICE
    title: ClassVar[str] = "The agent offers no such service"


class TargetRefusedError(TargetError):
    """Nobody listens."""

    code: ClassVar[str] = OpenRefusal.CONNECTION_REFUSED
    title: ClassVar[str] = "The service refused the connection"


class TargetTimeoutError(TargetError):
    """No answer in time."""

    code: ClassVar[str] = OpenRefusal.TIMEOUT
    status: ClassVar[int] = 504
    title: ClassVar[str] = "The service did not answer in time"


class TargetUnreachableError(TargetError):
    """No route, no such name, no permission."""

    code: ClassVar[str] = OpenRefusal.UNREACHABLE
    title: ClassVar[str] = "The service is unreachable"


class StreamLimitError(TargetError):
    """More streams, or descriptors, than the agent may use."""

    code: ClassVar[str] = OpenRefusal.OVER_CAPACITY
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The agent is at its limit"


class StoppingError(TargetError):
    """The agent takes no new streams."""

    code: ClassVar[str] = OpenRefusal.DRAINING
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The agent is stopping"


class UnhealthyError(TargetError):
    """The service accepts connections, and does not answer as a healthy one does."""

    code: ClassVar[str] = "unhealthy"
    title: ClassVar[str] = "The service is not healthy"
