"""Errors of API tokens.

HomeportError
└── TokenError
    ├── ApiTokenNotFoundError      404 no_such_api_token       the team has no token of that id
    ├── UnknownScopeError          422 unknown_scope           a scope that says nothing
    ├── ScopeNotGrantedError       403 scope_not_granted       more than the issuer has
    ├── ApiTokenEndedError         409 api_token_ended         it is revoked or has expired, and cannot be changed
    └── AddressNotAllowedError     403 address_not_allowed     a token that may not be used from this address
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "AddressNotAllowedError",
    "ApiTokenEndedError",
    "ApiTokenNotFoundError",
    "ScopeNotGrantedError",
    "TokenError",
    "UnknownScopeError",
]


class TokenError(HomeportError):
    """Base of the errors of API tokens."""


class ApiTokenNotFoundError(TokenError):
    """The team has no API token of that id."""

    code: ClassVar[str] = "no_such_api_token"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such API token"


class UnknownScopeError(TokenError):
    """A scope that says nothing: misspelt, or of a newer version."""

    code: ClassVar[str] = "unknown_scope"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "Unknown scope"


class ScopeNotGrantedError(TokenError):
    """A token gets no more than whoever makes or rotates it has."""

    code: ClassVar[str] = "scope_not_granted"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "A scope that is not yours to give"


class ApiTokenEndedError(TokenError):
    """The token is revoked or has expired; make another one."""

    code: ClassVar[str] = "api_token_ended"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The API token has ended"


class AddressNotAllowedError(TokenError):
    """The token holds, but not from this address."""

    code: ClassVar[str] = "address_not_allowed"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "Not from this address"
