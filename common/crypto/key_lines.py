"""Files with a key a line: 32 bytes in base64url each, the newest first."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Final

from common.secret import Secret

__all__ = ["KEY_LENGTH", "new_key_line", "read_key_lines"]

KEY_LENGTH: Final = 32
"""Bytes."""

_MAX_KEYS: Final = 16


def new_key_line() -> Secret:
    """A fresh line: 256 random bits, base64url."""
    return Secret(base64.urlsafe_b64encode(secrets.token_bytes(KEY_LENGTH)).decode())


def read_key_lines(keys: Secret, what: str) -> tuple[bytes, ...]:
    """The keys of a file, in its order.

    Args:
        keys: the content of the file.
        what: the keys are of, for the error: `cookie`.

    Raises:
        ValueError: there is none, too many, or one is no key. It quotes nothing.
    """
    lines = keys.reveal().split()
    if not 0 < len(lines) <= _MAX_KEYS:
        raise ValueError(f"1 to {_MAX_KEYS} {what} keys are needed, one a line")
    decoded = []
    for line in lines:
        try:
            decoded.append(base64.b64decode(line, altchars=b"-_", validate=True))
        except (binascii.Error, ValueError):
            decoded.append(b"")
    if any(len(key) != KEY_LENGTH for key in decoded):
        raise ValueError(f"a {what} key is {KEY_LENGTH} bytes in base64url")
    return tuple(decoded)
