"""The keys of the checkpoints: Ed25519, the private one with the API server, the public one with whoever verifies."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from api_server.audit.chain import Checkpoint, checkpoint_bytes
from common.crypto.key_sets import parse_keys
from common.crypto.keyfiles import read_public, read_secret

__all__ = ["CheckpointSigner", "CheckpointVerifier"]


class CheckpointSigner:
    """Signs checkpoints with the first key of a private key set.

    Args:
        path: of its file, mode 0600.

    Raises:
        KeyFileError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        key = parse_keys(read_secret(path).reveal(), str(path), private=True)[0]
        private = key.private_key
        assert isinstance(private, Ed25519PrivateKey)
        self._key = private
        self.key_id = key.thumbprint()
        """RFC 7638 thumbprint."""

    def sign(self, checkpoint: Checkpoint) -> str:
        """The signature, base64url without padding."""
        return base64.urlsafe_b64encode(self._key.sign(checkpoint_bytes(checkpoint))).rstrip(b"=").decode()


class CheckpointVerifier:
    """Knows the keys that are believed.

    Args:
        path: of a public key set, or of a private one (mode 0600).

    Raises:
        KeyFileError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        text = read_public(path)
        if '"d"' in text:
            text = read_secret(path).reveal()  # which refuses a private key that others can read
        self._keys: dict[str, Ed25519PublicKey] = {}
        for key in parse_keys(text, str(path), private=False):
            public = key.public_key
            assert isinstance(public, Ed25519PublicKey)
            self._keys[key.thumbprint()] = public

    def knows(self, key_id: str) -> bool:
        """Whether it has that key."""
        return key_id in self._keys

    def holds(self, checkpoint: Checkpoint, signature: str) -> bool:
        """Whether `signature` is one of a key that is believed, over that checkpoint."""
        key = self._keys.get(checkpoint.key_id)
        if key is None:
            return False
        try:
            key.verify(base64.b64decode(signature + "==", altchars=b"-_", validate=True), checkpoint_bytes(checkpoint))
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True
