"""Errors of credentials and key files.

HomeportError
└── CredentialError                   401 invalid_credential       a token or key that does not hold
    ├── InvalidSessionTokenError      401 invalid_session_token    not a session token of ours, or not for this relay
    │   └── ExpiredSessionTokenError  401 session_token_expired    it was one, until it expired
    └── KeyFileError                  500 key_file_unusable        a key file is missing, broken, or open to others

A detail names what did not hold (the claim, the file), never the token or the key.
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = ["CredentialError", "ExpiredSessionTokenError", "InvalidSessionTokenError", "KeyFileError"]


class CredentialError(HomeportError):
    """Base of the errors of tokens and keys."""

    code: ClassVar[str] = "invalid_credential"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "The credential does not hold"


class InvalidSessionTokenError(CredentialError):
    """Not a session token of ours, or not one for the relay."""

    code: ClassVar[str] = "invalid_session_token"
    title: ClassVar[str] = "The session token does not hold"


class ExpiredSessionTokenError(InvalidSessionTokenError):
    """The session token held until it expired."""

    code: ClassVar[str] = "session_token_expired"
    title: ClassVar[str] = "The session token has expired"


class KeyFileError(CredentialError):
    """A key file is missing, broken, or open to others."""

    code: ClassVar[str] = "key_file_unusable"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "A key file cannot be used"
