"""Errors of credentials, key files and what is sealed.

HomeportError
├── CredentialError                   401 invalid_credential       a token or key that does not hold
│   ├── InvalidSessionTokenError      401 invalid_session_token    not a session token of ours, or not for this relay
│   │   └── ExpiredSessionTokenError  401 session_token_expired    it was one, until it expired
│   ├── InvalidProofError             401 invalid_proof            a device does not prove that it holds its key
│   │   └── StaleProofError           401 stale_proof              it would, but the clocks of the two sides differ
│   └── KeyFileError                  500 key_file_unusable        a key file is missing, broken, or open to others
└── SealError                         500 seal_failed              what is sealed cannot be had
    ├── SealBrokenError               500 seal_broken              altered, of another record, or an older version
    └── KeyMissingError               500 key_missing              the keyring lacks the key that it needs

A detail names what did not hold (the claim, the file, the id of a key), never the token, the key or what is sealed.
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
    "KeyMissingError",
    "SealBrokenError",
    "SealError",
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


class SealError(HomeportError):
    """Base of the errors of what is sealed."""

    code: ClassVar[str] = "seal_failed"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "What is sealed cannot be had"


class SealBrokenError(SealError):
    """A sealed text does not open: it was altered, belongs to another record, or is an older version of this one."""

    code: ClassVar[str] = "seal_broken"
    title: ClassVar[str] = "What is sealed does not open"


class KeyMissingError(SealError):
    """The keyring does not have a key that something sealed needs.

    Args:
        key_id: of the key; it is no secret.
        what: needs it.
    """

    code: ClassVar[str] = "key_missing"
    title: ClassVar[str] = "A key is missing from the keyring"

    def __init__(self, key_id: str, what: str = "what is sealed") -> None:
        super().__init__(f"{what} needs the key {key_id}, which the keyring does not have; put it back from a backup")
        self.key_id = key_id
