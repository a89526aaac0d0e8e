"""Opaque tokens: what is shown once and found again by its hash.

    hp_ <43 characters> <6 characters>
    |    |               base62 of the CRC-32 of all that stands before
    |    base62 of 32 random bytes
    hp_ of a program's API token, hpp_ of a pairing token, hpi_ of an invitation

The prefix lets secret scanners find a token that leaked; the checksum lets garbage be refused without a look-up. Of a
token only a keyed hash and its `start` are kept. The hash is one HMAC-SHA256, not a slow password hash: 256 random
bits cannot be guessed offline either.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib

from common.secret import Secret

__all__ = [
    "API_TOKEN_PREFIX",
    "INVITATION_TOKEN_PREFIX",
    "PAIRING_TOKEN_PREFIX",
    "checksum_holds",
    "hash_token",
    "new_api_token",
    "new_token",
    "start",
    "stored_hash",
]

API_TOKEN_PREFIX = "hp_"  # noqa: S105  # the public prefix, no token
PAIRING_TOKEN_PREFIX = "hpp_"  # noqa: S105
INVITATION_TOKEN_PREFIX = "hpi_"  # noqa: S105

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_BYTES = 32
_RANDOM_LENGTH = 43
"""Characters: 62^43 is the first power of 62 above 2^256."""
_CHECKSUM_LENGTH = 6
"""Characters: 62^6 is the first power of 62 above 2^32."""
_START_LENGTH = 6
_SHAPE = re.compile(rf"(hp[a-z]?_)[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECKSUM_LENGTH}}}", re.ASCII)


def new_token(prefix: str) -> Secret:
    """A fresh token of the kind that `prefix` names."""
    body = prefix + _base62(int.from_bytes(secrets.token_bytes(_RANDOM_BYTES)), _RANDOM_LENGTH)
    return Secret(body + _checksum(body))


def new_api_token() -> Secret:
    """A fresh API token."""
    return new_token(API_TOKEN_PREFIX)


def checksum_holds(text: str, prefix: str = API_TOKEN_PREFIX) -> bool:
    """Whether `text` has the shape of a token of that kind and its checksum is right; costs about a microsecond, and
    no secret.
    """
    shape = _SHAPE.fullmatch(text)
    return shape is not None and shape[1] == prefix and _checksum(text[:-_CHECKSUM_LENGTH]) == text[-_CHECKSUM_LENGTH:]


def hash_token(key: bytes, token: Secret) -> bytes:
    """What is stored and compared in place of the token: 32 bytes.

    Args:
        key: at least 32 bytes; without it, a stolen hash cannot even be matched with a token that is known.
    """
    return hmac.digest(key, token.reveal().encode(), hashlib.sha256)


def stored_hash(token: Secret) -> str:
    """What a database keeps of a token that is looked up by it: SHA-256, in hexadecimal.

    Without a key, so that every process and every restart finds it again; 256 random bits need none to stay unknown.
    """
    return hashlib.sha256(token.reveal().encode()).hexdigest()


def start(token: Secret) -> str:
    """The first characters of a token, for people to tell their tokens apart: 36 of its 256 bits."""
    text = token.reveal()
    return text[: text.index("_") + 1 + _START_LENGTH]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
