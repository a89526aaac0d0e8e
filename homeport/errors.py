"""Errors of the command line.

HomeportError
└── CommandError                      what a command tells the person who typed it; exit code 1
    ├── NotConfiguredError            no URL or no token to work with, or none that may be used together
    ├── ApiError
    │   ├── ApiRefusedError           the API answered with a problem: its status, code and detail
    │   └── ApiUnreachableError       no answer, or one that is not of our API
    ├── ForwardError
    │   ├── UpgradeRefusedError       the gateway answered with a problem instead of the stream
    │   ├── GatewayUnreachableError   no connection to the gateway, or an answer that is not HTTP
    │   ├── ListenError               the local address cannot be listened on
    │   └── StreamCutError            the stream was reset, or what it was joined to broke
    └── SupervisorError               homeport.up.errors: the data directory, the ports, the child processes
"""

from __future__ import annotations

from typing import Any, ClassVar

from common.errors import HomeportError

__all__ = [
    "ApiError",
    "ApiRefusedError",
    "ApiUnreachableError",
    "CommandError",
    "ForwardError",
    "GatewayUnreachableError",
    "ListenError",
    "NotConfiguredError",
    "StreamCutError",
    "UpgradeRefusedError",
]


class CommandError(HomeportError):
    """Base of what ends a command with exit code 1."""

    code: ClassVar[str] = "command_failed"
    title: ClassVar[str] = "The command failed"


class NotConfiguredError(CommandError):
    """No URL or no token to work with."""

    code: ClassVar[str] = "not_configured"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Not configured"


class _AnsweredError(CommandError):
    """A problem that a server of ours answered with.

    Args:
        detail: the server's own words.
        http_status: the status of the answer.
        reason: the stable code of the problem; empty when there is none.
    """

    def __init__(self, detail: str, *, http_status: int, reason: str, retry_after: float | None = None) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.http_status = http_status
        self.reason = reason

    def problem(self) -> dict[str, Any]:
        """The problem as the server meant it, so that a script sees the code it would have seen over HTTP."""
        code = self.reason or self.code
        return super().problem() | {"type": f"urn:homeport:error:{code}", "status": self.http_status, "code": code}


class ApiError(CommandError):
    """The API did not do what was asked."""

    code: ClassVar[str] = "api_error"


class ApiRefusedError(_AnsweredError, ApiError):
    """The API answered with a problem."""

    code: ClassVar[str] = "api_refused"
    title: ClassVar[str] = "The API refused"


class ApiUnreachableError(ApiError):
    """No answer from the API, or one that is not its."""

    code: ClassVar[str] = "api_unreachable"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The API is unreachable"


class ForwardError(CommandError):
    """A connection could not be forwarded."""

    code: ClassVar[str] = "forward_failed"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The connection was not forwarded"


class UpgradeRefusedError(_AnsweredError, ForwardError):
    """The gateway answered with a problem instead of the stream."""

    code: ClassVar[str] = "forward_refused"
    title: ClassVar[str] = "The gateway refused"


class GatewayUnreachableError(ForwardError):
    """No connection to the gateway, or an answer that is not HTTP."""

    code: ClassVar[str] = "gateway_unreachable"
    title: ClassVar[str] = "The gateway is unreachable"


class ListenError(ForwardError):
    """The local address cannot be listened on."""

    code: ClassVar[str] = "cannot_listen"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Cannot listen"


class StreamCutError(ForwardError):
    """The stream was reset, or what it was joined to broke."""

    code: ClassVar[str] = "stream_cut"
    title: ClassVar[str] = "The stream was cut"
