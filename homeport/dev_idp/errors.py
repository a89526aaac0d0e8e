"""Errors of the provider for development.

HomeportError
├── DevProviderRefusedError   500 dev_provider_refused      it, or the API, would be reachable from elsewhere
└── OAuthError                400 oauth_request_refused     a request that it does not take; `error` as OAuth names it
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = ["DevProviderRefusedError", "OAuthError"]


class DevProviderRefusedError(HomeportError):
    """The provider for development asks for no password, and so is for one machine alone."""

    code: ClassVar[str] = "dev_provider_refused"
    title: ClassVar[str] = "Refused: this provider is for development on one machine"


class OAuthError(HomeportError):
    """A request that the provider for development does not take.

    Args:
        error: as RFC 6749 names it.
        detail: what was wrong.
    """

    code: ClassVar[str] = "oauth_request_refused"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The request is refused"

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error
