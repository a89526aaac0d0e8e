"""Errors of the relying party.

HomeportError
└── OidcError
    ├── ProviderUnavailableError   503 sign_in_unavailable     no answer, or none that can be used; with Retry-After
    ├── SignInRefusedError         403 sign_in_refused         the provider says no: the person cancelled, or may not
    ├── InvalidCallbackError       400 invalid_callback        not an answer to a sign-in that this browser began
    ├── CodeRefusedError           400 code_refused            the provider does not take the code: used, or too old
    └── TokenError
        ├── InvalidIdTokenError      400 invalid_id_token      one of the checks of OpenID Connect Core 3.1.3.7 failed
        ├── InvalidLogoutTokenError  400 invalid_logout_token  one of the checks of Back-Channel Logout 2.6 failed
        └── UnknownKeyError          400 unknown_signing_key   signed with a key that the provider does not publish

A detail names the check that failed, never a token, a code or a secret.
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "CodeRefusedError",
    "InvalidCallbackError",
    "InvalidIdTokenError",
    "InvalidLogoutTokenError",
    "OidcError",
    "ProviderUnavailableError",
    "SignInRefusedError",
    "TokenError",
    "UnknownKeyError",
]


class OidcError(HomeportError):
    """Base of the errors of the relying party."""


class ProviderUnavailableError(OidcError):
    """The identity provider does not answer, or not in a way that can be used. Whoever is signed in stays so."""

    code: ClassVar[str] = "sign_in_unavailable"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The identity provider does not answer"


class SignInRefusedError(OidcError):
    """The identity provider says no: the person cancelled, or may not use Homeport."""

    code: ClassVar[str] = "sign_in_refused"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The identity provider refused"


class InvalidCallbackError(OidcError):
    """Not an answer to a sign-in that this browser began in the last minutes."""

    code: ClassVar[str] = "invalid_callback"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Not an answer to a sign-in of this browser"


class CodeRefusedError(OidcError):
    """The identity provider does not take the authorization code: used, too old, or not ours."""

    code: ClassVar[str] = "code_refused"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The identity provider does not take the code"


class TokenError(OidcError):
    """Base of what is wrong with tokens of the identity provider."""


class InvalidIdTokenError(TokenError):
    """An ID token fails one of the checks of OpenID Connect Core section 3.1.3.7."""

    code: ClassVar[str] = "invalid_id_token"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The ID token does not hold"


class InvalidLogoutTokenError(TokenError):
    """A logout token fails one of the checks of OpenID Connect Back-Channel Logout section 2.6."""

    code: ClassVar[str] = "invalid_logout_token"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The logout token does not hold"


class UnknownKeyError(TokenError):
    """A token is signed with a key that the identity provider does not publish."""

    code: ClassVar[str] = "unknown_signing_key"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Signed with an unknown key"
