"""What an installation leaves at a destination, signed: the marker and the manifest.

    homeport/marker.json     this place is that installation's, and was meant to be: criterion C5
    homeport/manifest.json   which records are there, in which version, with which digest: criterion C7

Manifests are numbered and each names the one before, so that an older one that was put back is known for what it is by
whoever remembers the newest number. The signature is Ed25519 by the keyring's signing key; it covers every field.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api_server.custody.errors import DestinationSettingsError
from common.crypto.keyring import Keyring

__all__ = ["MANIFEST", "MARKER", "Entry", "Manifest", "Marker", "Signer"]

MARKER = "homeport/marker.json"
MANIFEST = "homeport/manifest.json"
"""Names of documents."""

_FORMAT = 1


class Marker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Says whose a destination is."""

    format: int = _FORMAT
    installation: str
    """Of whom: the id of the signing key."""
    destination: str
    """Where it was put: one that was copied elsewhere proves nothing there."""
    made_at: float
    signature: str = ""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A record at the destination."""

    version: int
    digest: str
    """SHA-256 of its document."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Says what is at a destination."""

    format: int = _FORMAT
    installation: str
    destination: str
    number: int
    """1 for the first."""
    previous: str
    """Digest of the one before; empty for the first."""
    made_at: float
    records: dict[str, Entry]
    signature: str = ""


S = TypeVar("S", Marker, Manifest)


class Signer:
    """Signs for an installation, and knows its own signatures.

    Args:
        keyring: with a signing key.

    Raises:
        DestinationSettingsError: it has none.
    """

    def __init__(self, keyring: Keyring) -> None:
        if keyring.signing is None:
            raise DestinationSettingsError("the keyring has no signing key; `homeport keys init` adds one")
        self._key = Ed25519PrivateKey.from_private_bytes(keyring.signing.reveal())
        self._public = self._key.public_key()
        self.installation = hashlib.sha256(self._public.public_bytes_raw()).hexdigest()[:32]
        """Names the installation; nobody else has it, unless they have the keyring."""

    def sign(self, statement: S) -> bytes:
        """The statement as a document."""
        signature = base64.urlsafe_b64encode(self._key.sign(_signed(statement))).decode()
        signed = msgspec.structs.replace(statement, signature=signature)
        return msgspec.json.format(msgspec.json.encode(signed), indent=1) + b"\n"

    def read(self, document: bytes, kind: type[S]) -> S | None:
        """The statement in a document; None when it is none, or not signed by this installation."""
        try:
            statement = msgspec.json.decode(document, type=kind)
            signature = base64.b64decode(statement.signature, altchars=b"-_", validate=True)
            self._public.verify(signature, _signed(statement))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, binascii.Error, ValueError, InvalidSignature):
            return None
        return statement if (statement.format, statement.installation) == (_FORMAT, self.installation) else None


def _signed(statement: Marker | Manifest) -> bytes:
    """What the signature covers: which kind of statement it is, and all of it."""
    bare = msgspec.structs.replace(statement, signature="")
    return f"homeport custody {type(statement).__name__}\n".encode() + msgspec.json.encode(bare, order="deterministic")
