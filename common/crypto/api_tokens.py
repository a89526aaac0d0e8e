"""API tokens: what a program shows to the API and to the gateway.

    hp_ <43 characters> <6 characters>
         |               base62 of the CRC-32 of all that stands before
         base62 of 32 random bytes

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

__all__ = ["API_TOKEN_PREFIX", "checksum_holds", "hash_token", "new_api_token", "start"]

API_TOKEN_PREFIX = "hp_"  # noqa: S105  # the public prefix, no token

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_BYTES = 32
_RANDOM_LENGTH = 43
"""Characters: 62^43 is the first power of 62 above 2^256."""
_CHECKSUM_LENGTH = 6
"""Characters: 62^6 is the first power of 62 above 2^32."""
_BODY_END = len(API_TOKEN_PREFIX) + _RANDOM_LENGTH
_START_LENGTH = len(API_TOKEN_PREFIX) + 6
_SHAPE = re.compile(rf"{API_TOKEN_PREFIX}[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECKSUM_LENGTH}}}", re.ASCII)


def new_api_token() -> Secret:
    """A fresh token."""
    body = API_TOKEN_PREFIX + _base62(int.from_bytes(secrets.token_bytes(_RANDOM_BYTES)), _RANDOM_LENGTH)
    return Secret(body + _checksum(body))


def checksum_holds(text: str) -> bool:
    """Whether `text` has the shape of a token and its checksum is right; costs about a microsecond, and no secret."""
    return _SHAPE.fullmatch(text) is not None and _checksum(text[:_BODY_END]) == text[_BODY_END:]


def hash_token(key: bytes, token: Secret) -> bytes:
    """What is stored and compared in place of the token: 32 bytes.

    Args:
        key: at least 32 bytes; without it, a stolen hash cannot even be matched with a token that is known.
    """
    return hmac.digest(key, token.reveal().encode(), hashlib.sha256)


def start(token: Secret) -> str:
    """The first characters of a token, for people to tell their tokens apart: 36 of its 256 bits."""
    return token.reveal()[:_START_LENGTH]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
