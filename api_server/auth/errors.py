"""Errors of authentication and authorisation.

HomeportError
└── AuthError
    ├── UnauthenticatedError            401 unauthenticated            no credential, or one that is nobody's
    ├── ForbiddenError                  403 forbidden                  the identity may not do that
    ├── TeamNotFoundError               404 no_such_team               not a team of the identity, or no team at all
    ├── ConflictingCredentialsError     400 conflicting_credentials    two different credentials in one request
    ├── CredentialInQueryError          400 credential_in_query        a token in the URL, where logs would keep it
    └── TooManyAttemptsError            429 too_many_attempts          wrong tokens from this address; with Retry-After
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "AuthError",
    "ConflictingCredentialsError",
    "CredentialInQueryError",
    "ForbiddenError",
    "TeamNotFoundError",
    "TooManyAttemptsError",
    "UnauthenticatedError",
]


class AuthError(HomeportError):
    """Base of the errors of authentication and authorisation."""


class UnauthenticatedError(AuthError):
    """No credential was shown, or one that is nobody's. Answered with `WWW-Authenticate` (RFC 9110 section 11.6.1)."""

    code: ClassVar[str] = "unauthenticated"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "A valid credential is needed"


class ForbiddenError(AuthError):
    """The identity may not do that."""

    code: ClassVar[str] = "forbidden"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "Not allowed"


class TeamNotFoundError(AuthError):
    """Not a team of the identity, or no team at all: never told apart."""

    code: ClassVar[str] = "no_such_team"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such team"


class ConflictingCredentialsError(AuthError):
    """Two different credentials in one request: whose request it is must not depend on which one is looked at."""

    code: ClassVar[str] = "conflicting_credentials"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Conflicting credentials"


class CredentialInQueryError(AuthError):
    """A token in the URL, where logs and histories would keep it. It is refused even if it is valid."""

    code: ClassVar[str] = "credential_in_query"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "A token in the query string"


class TooManyAttemptsError(AuthError):
    """Too many wrong tokens from one address."""

    code: ClassVar[str] = "too_many_attempts"
    status: ClassVar[int] = 429
    title: ClassVar[str] = "Too many wrong tokens"
