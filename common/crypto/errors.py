"""Errors of credentials and key files.

HomeportError
└── CredentialError                   401 invalid_credential       a token or key that does not hold
    ├── InvalidSessionTokenError      401 invalid_session_token    not a session token of ours, or not for this relay
    │   └── ExpiredSessionTokenError  401 session_token_expired    it was one, until it expired
    ├── InvalidProofError             401 invalid_proof            a device does not prove that it holds its key
    │   └── StaleProofError           401 stale_proof              it would, but the clocks of the two sides differ
    └── KeyFileError                  500 key_file_unusable        a key file is missing, broken, or open to others

A detail names what did not hold (the claim, the file), never the token or the key.
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "CredentialError",
    "ExpiredSessionTokenError",
    "InvalidProofError",
    "InvalidSessionTokenError",
    "KeyFileError",
    "StaleProofError",
]


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


class InvalidProofError(CredentialError):
    """A device does not prove that it holds the key it names."""

    code: ClassVar[str] = "invalid_proof"
    title: ClassVar[str] = "The proof of the key does not hold"


class StaleProofError(InvalidProofError):
    """The proof would hold, but it was made at another time than now: the clocks of the two sides differ. Take the
    time from `Date` of the answer, and try again.
    """

    code: ClassVar[str] = "stale_proof"
    title: ClassVar[str] = "The proof was made at another time"


class KeyFileError(CredentialError):
    """A key file is missing, broken, or open to others."""

    code: ClassVar[str] = "key_file_unusable"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "A key file cannot be used"
