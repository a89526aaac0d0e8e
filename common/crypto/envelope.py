"""What is secret, at rest: AES-256-GCM under a key of its own for each record, and that key wrapped.

    hpe1 . <id of the wrapping key> . <wrapped data key> . <sealed payload>

    wrapped data key   nonce (12) || AES-256-GCM(wrapping key, data key);  associated data: "hpe1.<id>"
    sealed payload     nonce (12) || AES-256-GCM(data key, plaintext);     associated data: the whole `SealContext`
    each in base64url without padding

Invariants (criterion C1): a sealed text opens under the context that it was sealed with and no other, so that it cannot
be moved to another record, team or owner, and an older version cannot be put back where a newer one is expected; every
text that opens was written by `seal` or `rewrap`, bit by bit (base64 that has a second spelling is refused).

A data key is used once, so a nonce of its own is not needed to keep two payloads apart; a wrapping key is good for 2^32
random nonces (NIST SP 800-38D section 8.3), which is why keys rotate. The length of a secret shows.

Wrapping keys come from a `Keyring`; cookies have other keys (`api_server.auth.signin.cookie_keys`).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import astuple, dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.crypto.errors import SealBrokenError
from common.crypto.keyring import KEY_LENGTH, Keyring, is_key_id
from common.secret import SecretBytes

__all__ = ["PREFIX_LENGTH", "Envelope", "Keys", "SealContext", "key_id_of", "prefix_of"]

_FORMAT = "hpe1"
_NONCE_LENGTH = 12
"""Bytes; what GCM is made for (NIST SP 800-38D section 8.2.1)."""
_TAG_LENGTH = 16
_WRAPPED_LENGTH = _NONCE_LENGTH + KEY_LENGTH + _TAG_LENGTH
_MAX_PLAINTEXT = 1024 * 1024
"""Bytes; tokens and credentials are a few kilobytes, and a text must fit where it is kept."""

PREFIX_LENGTH = len("hpe1.kek-0123456789abcdef.")
"""Characters with which all sealed texts of one wrapping key begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealContext:
    """What a sealed text belongs to; all of it must be said again to open it."""

    kind: str
    """What is sealed: `provider_token`, `route_credential` ... Each table or use has its own."""
    team: str
    owner: str
    """Id of the user or thing that it belongs to within the team; empty for the team itself."""
    name: str
    """Which of the owner's it is, such as the provider."""
    id: str
    """Of the record."""
    version: int
    """Of the record; grows with each change."""


class Keys(Protocol):
    """Where the keys are: a `Keyring`, or a `KeyringFile`, which follows its file."""

    def current(self) -> Keyring:
        """The keys as they are now."""
        ...


class Envelope:
    """Seals and opens.

    Args:
        keys: that wrap.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def seal(self, plaintext: bytes, context: SealContext) -> str:
        """The sealed text: ASCII, about 4/3 of the plaintext and 170 characters.

        Raises:
            ValueError: the plaintext is larger than 1 MiB.
        """
        if len(plaintext) > _MAX_PLAINTEXT:
            raise ValueError(f"at most {_MAX_PLAINTEXT} bytes can be sealed")
        data_key = secrets.token_bytes(KEY_LENGTH)
        payload = _encrypt(data_key, plaintext, _associated(context))
        return f"{self._wrap(data_key)}.{payload}"

    def open(self, sealed: str, context: SealContext) -> SecretBytes:
        """The plaintext.

        Raises:
            SealBrokenError: it was altered, is of another record or version, or is no sealed text.
            KeyMissingError: the keyring does not have the key that wrapped it.
        """
        data_key, payload = self._unwrap(sealed)
        return SecretBytes(_decrypt(data_key, payload, _associated(context)))

    def rewrap(self, sealed: str) -> str:
        """The same payload with its key wrapped by the first key; as it was when that is so already.

        It needs no context, and opens nothing but the wrapped key.

        Raises:
            SealBrokenError: the wrapped key was altered, or it is no sealed text.
            KeyMissingError: the keyring does not have the key that wrapped it.
        """
        if key_id_of(sealed) == self._keys.current().first.id:
            return sealed
        data_key, _ = self._unwrap(sealed)
        return f"{self._wrap(data_key)}.{sealed.rpartition('.')[2]}"

    @property
    def keyring(self) -> Keyring:
        """The keys as they are now."""
        return self._keys.current()

    def _wrap(self, data_key: bytes) -> str:
        key = self._keys.current().first
        header = f"{_FORMAT}.{key.id}"
        return f"{header}.{_encrypt(key.key.reveal(), data_key, header.encode())}"

    def _unwrap(self, sealed: str) -> tuple[bytes, bytes]:
        """Data key and payload."""
        key_id = key_id_of(sealed)
        _, _, wrapped, payload = sealed.split(".")
        raw = _decode(wrapped)
        if len(raw) != _WRAPPED_LENGTH:
            raise SealBrokenError("the wrapped key has not the length of one")
        key = self._keys.current().get(key_id)
        return _decrypt(key.key.reveal(), raw, f"{_FORMAT}.{key_id}".encode()), _decode(payload)


def key_id_of(sealed: str) -> str:
    """The id of the key that wrapped a sealed text.

    Raises:
        SealBrokenError: it is no sealed text.
    """
    parts = sealed.split(".", 4)
    if len(parts) != 4 or parts[0] != _FORMAT or not is_key_id(parts[1]):
        raise SealBrokenError("it is no sealed text")
    return parts[1]


def prefix_of(key_id: str) -> str:
    """What every text begins with whose key that one wrapped: `PREFIX_LENGTH` characters."""
    return f"{_FORMAT}.{key_id}."


def _associated(context: SealContext) -> bytes:
    """The context as bytes: each field behind its length, so that no two contexts give the same."""
    parts = [f"homeport {_FORMAT}".encode()]
    parts += [str(value).encode("utf-8", "surrogatepass") for value in astuple(context)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _encrypt(key: bytes, plaintext: bytes, associated: bytes) -> str:
    nonce = secrets.token_bytes(_NONCE_LENGTH)
    return base64.urlsafe_b64encode(nonce + AESGCM(key).encrypt(nonce, plaintext, associated)).rstrip(b"=").decode()


def _decrypt(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    if len(sealed) < _NONCE_LENGTH + _TAG_LENGTH:
        raise SealBrokenError("it is too short")
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_LENGTH], sealed[_NONCE_LENGTH:], associated)
    except InvalidTag:
        raise SealBrokenError("it was altered, or belongs to another record or version") from None


def _decode(text: str) -> bytes:
    """The bytes of base64url without padding (RFC 4648 section 5), in their one spelling."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise SealBrokenError("it is not in base64url") from None
    # The last character has bits that mean nothing; altered, they would otherwise go unseen. The other alphabet, too.
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise SealBrokenError("it is not in base64url as written here")
    return raw
