"""The keys that API tokens are hashed with: one file, a key a line. The first one hashes, the others still find.

What the database has of a token is its HMAC-SHA256 under a key that is not in the database. Whoever has stolen a copy
of the database can neither use what is in it, nor tell whether a token that leaked elsewhere is one of these.

To rotate, put a new line first. What is made or rotated from then on is hashed with it; an old line may go once every
token that was made before has been rotated or revoked. Without its key a token is nobody's.
"""

from __future__ import annotations

from pathlib import Path

from common.crypto.api_tokens import hash_token
from common.crypto.errors import KeyFileError
from common.crypto.key_lines import new_key_line, read_key_lines
from common.crypto.keyfiles import ensure_secret, read_secret
from common.secret import Secret

__all__ = ["TokenKeys", "ensure_token_keys"]


def ensure_token_keys(path: Path) -> None:
    """Have keys in `path`; a fresh one is written there when there is none.

    Raises:
        KeyFileError: the file cannot be made, or not be trusted.
    """
    ensure_secret(path, new_key_line)


class TokenKeys:
    """The keys, newest first.

    Args:
        keys: as in the file.

    Raises:
        ValueError: there is none, too many, or one is no key.
    """

    __slots__ = ("_first", "_keys")

    def __init__(self, keys: Secret) -> None:
        self._keys = read_key_lines(keys, "API token")
        self._first = self._keys[0]

    @classmethod
    def from_file(cls, path: Path) -> TokenKeys:
        """The keys in a file.

        Raises:
            KeyFileError: it cannot be read or trusted, or holds no keys.
        """
        try:
            return cls(read_secret(path))
        except ValueError as exc:
            raise KeyFileError(f"{path}: {exc}") from None

    def digest(self, token: Secret) -> bytes:
        """The hash of a token under the first key: what is remembered of it."""
        return hash_token(self._first, token)

    def stored(self, token: Secret) -> str:
        """What the database keeps of a new token."""
        return self.digest(token).hex()

    def candidates(self, token: Secret) -> tuple[str, ...]:
        """What the database may have of a token, under each of the keys."""
        return tuple(hash_token(key, token).hex() for key in self._keys)
