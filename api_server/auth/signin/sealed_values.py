"""Values of cookies that a browser keeps for us and cannot read or change: AES-256-GCM, bound to a name. No I/O."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["SealedValues"]

S = TypeVar("S", bound=msgspec.Struct)

_NONCE = 12
"""Bytes: NIST SP 800-38D section 8.2."""


class SealedValues(Generic[S]):
    """Seals structs of one type.

    Args:
        keys: newest first; the first one seals, all of them open.
        type_: what is sealed.
    """

    def __init__(self, keys: Sequence[bytes], type_: type[S]) -> None:
        self._ciphers = tuple(AESGCM(key) for key in keys)
        self._type = type_

    def seal(self, name: str, value: S) -> str:
        """The value of a cookie, which opens under that name only."""
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._ciphers[0].encrypt(nonce, msgspec.msgpack.encode(value), name.encode())
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()

    def open(self, name: str, text: str) -> S | None:
        """What was sealed; None when it was not here, or under another name."""
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        for cipher in self._ciphers:
            try:
                opened = cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
                return msgspec.msgpack.decode(opened, type=self._type)
            except (InvalidTag, ValueError, msgspec.MsgspecError):
                continue
        return None
