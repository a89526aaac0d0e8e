"""The keys of cookies: one file, a key a line, the first one signs and encrypts, the others still open what is out.

Each purpose has a key of its own, derived by HKDF-SHA256 (RFC 5869), so that a session cookie can never pass for a
transaction cookie, or the other way round. To rotate, put a new line first; take the old one out after
`session_lifetime`. Whoever takes a key out signs out everybody whose cookie it signed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.crypto.errors import KeyFileError
from common.crypto.key_lines import KEY_LENGTH, new_key_line, read_key_lines
from common.crypto.keyfiles import ensure_secret, read_secret
from common.secret import Secret

__all__ = ["CookieKeys", "Purpose", "ensure_cookie_keys", "new_cookie_key"]

Purpose = Literal["connect", "csrf", "gateway_session", "gateway_ticket", "session", "transaction"]

new_cookie_key = new_key_line


def ensure_cookie_keys(path: Path) -> None:
    """Have keys in `path`; a fresh one is written there when there is none.

    Raises:
        KeyFileError: the file cannot be made, or not be trusted.
    """
    ensure_secret(path, new_cookie_key)


class CookieKeys:
    """The keys, newest first.

    Args:
        keys: as in the file.

    Raises:
        ValueError: there is none, too many, or one is no key.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Secret) -> None:
        self._keys = read_key_lines(keys, "cookie")

    @classmethod
    def from_file(cls, path: Path) -> CookieKeys:
        """The keys in a file.

        Raises:
            KeyFileError: it cannot be read or trusted, or holds no keys.
        """
        try:
            return cls(read_secret(path))
        except ValueError as exc:
            raise KeyFileError(f"{path}: {exc}") from None

    def derive(self, purpose: Purpose) -> tuple[bytes, ...]:
        """The keys for a purpose, newest first."""
        info = f"homeport cookie: {purpose}".encode()
        return tuple(
            HKDF(algorithm=SHA256(), length=KEY_LENGTH, salt=None, info=info).derive(key) for key in self._keys
        )
