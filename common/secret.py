"""A value that must not be seen: printed, logged or serialised it shows as `***`."""

from __future__ import annotations

import hmac
from typing import NoReturn

__all__ = ["Secret", "SecretBytes"]


class Secret:
    """Holds a secret text; `reveal()` is the one way to read it, so that a search for it finds every use.

    Comparison is constant-time. A secret cannot be pickled, formatted or hashed into a key by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself. Call it where it is sent or compared, and nowhere else."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is never a dictionary key

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, _spec: str) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be serialised; reveal() it where it is needed")


class SecretBytes:
    """As `Secret`, of bytes: keys, and what was sealed."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The secret itself. Call it where it is used, and nowhere else."""
        return self._value

    def text(self) -> Secret:
        """The same as text.

        Raises:
            ValueError: it is not UTF-8; the error holds nothing of it.
        """
        try:
            return Secret(self._value.decode())
        except UnicodeDecodeError:
            raise ValueError("the secret is not UTF-8 text") from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretBytes):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a secret is never a dictionary key

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "SecretBytes(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, _spec: str) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretBytes cannot be serialised; reveal() it where it is needed")
