"""Errors of pairing, on the device's side.

HomeportError
└── AgentError
    └── PairingError
        ├── AlreadyPairedError     already_paired       the folder holds a credential
        ├── NotPairedError         not_paired           it holds none
        ├── ApiUrlError            invalid_api_url      a URL of the API that cannot be used, or must not be
        ├── ApiUnreachableError    api_unreachable      no answer, or none that can be understood
        ├── ApiRefusedError                             the API said no; `code` is its own
        └── FolderError            agent_folder         the folder cannot be used, or has no room
"""

from __future__ import annotations

from typing import Any, ClassVar

from edge_agent.errors import AgentError

__all__ = [
    "AlreadyPairedError",
    "ApiRefusedError",
    "ApiUnreachableError",
    "ApiUrlError",
    "FolderError",
    "NotPairedError",
    "PairingError",
]


class PairingError(AgentError):
    """Base of the errors of pairing."""

    code: ClassVar[str] = "pairing_failed"
    title: ClassVar[str] = "Pairing failed"


class AlreadyPairedError(PairingError):
    """The folder holds a credential already."""

    code: ClassVar[str] = "already_paired"
    title: ClassVar[str] = "The device is paired already"


class NotPairedError(PairingError):
    """The folder holds no credential."""

    code: ClassVar[str] = "not_paired"
    title: ClassVar[str] = "The device is not paired"


class ApiUrlError(PairingError):
    """A URL of the API that cannot be used, or that would send secrets in clear."""

    code: ClassVar[str] = "invalid_api_url"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The URL of the API cannot be used"


class ApiUnreachableError(PairingError):
    """The API does not answer, or not in a way that can be understood. The same again may succeed."""

    code: ClassVar[str] = "api_unreachable"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The API is unreachable"


class ApiRefusedError(PairingError):
    """The API said no.

    Args:
        api_code: the stable code of its problem+json answer.
        http_status: of the answer.
        detail: why.
        retry_after: seconds, when it named them.
        server_time: of the answer, seconds since the Unix epoch; None when it had no `Date`.
    """

    title: ClassVar[str] = "The API refused"

    def __init__(
        self,
        api_code: str,
        http_status: int,
        detail: str,
        *,
        retry_after: float | None = None,
        server_time: float | None = None,
    ) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.api_code = api_code
        self.http_status = http_status
        self.server_time = server_time

    def problem(self) -> dict[str, Any]:
        return {**super().problem(), "code": self.api_code, "status": self.http_status}


class FolderError(PairingError):
    """The agent's folder cannot be used, or the disk has no room for a credential."""

    code: ClassVar[str] = "agent_folder"
    title: ClassVar[str] = "The agent's folder cannot be used"
