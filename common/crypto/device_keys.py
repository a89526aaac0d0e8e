"""A device's own key, and the proof that it holds it.

The device makes an Ed25519 key (RFC 8032) and keeps the private part. Wherever it asks for a credential it sends the
public part and a proof: a JWS (RFC 7515) in compact form, signed with that key.

    header   {"alg": "EdDSA", "typ": "homeport-proof+jwt"}
    payload  {"aud": what it is for, "sub": what it is about, "iat": seconds since the Unix epoch, "jti": random}

`aud` and `sub` bind it to one request: a proof that was made to pair cannot be used to renew. `iat` and `jti` let the
other side refuse one that is old or that it has seen; a device without a clock of its own takes the time of the answer
that refused it (`DeviceKey.prove`, `now`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from common.crypto.errors import InvalidProofError, StaleProofError
from common.secret import Secret

__all__ = ["MAX_AGE", "DeviceKey", "Proof", "Purpose", "check_proof", "is_public_key", "thumbprint"]

MAX_AGE = 300.0
"""Seconds that the clocks of the two sides may differ, the way included."""

_KEY_BYTES = 32
_MAX_PROOF = 1024
"""Characters; ours have about 330."""
_HEADER = {"alg": "EdDSA", "typ": "homeport-proof+jwt"}


class Purpose(StrEnum):
    """What a proof is for; its `aud`."""

    PAIR = "homeport-pair"
    """`sub`: hash of the pairing token."""
    AUTHORIZE = "homeport-authorize"
    """Begins the device flow; `sub`: the name that the device asks for."""
    POLL = "homeport-poll"
    """Asks how the device flow stands; `sub`: hash of the device code."""
    RENEW = "homeport-renew"
    """`sub`: id of the device."""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a proof says."""

    aud: str
    sub: str
    iat: Annotated[float, Meta(ge=0, le=2**53)]
    jti: Annotated[str, Meta(min_length=16, max_length=64, pattern=r"\A[!-~]+\Z")]
    """Visible ASCII: whoever makes the proof chooses it, and it is kept in a database."""


class _Header(msgspec.Struct, frozen=True):
    alg: str
    typ: str


_decode_header = msgspec.json.Decoder(_Header).decode
_decode_proof = msgspec.json.Decoder(Proof).decode


class DeviceKey:
    """A device's private key.

    Args:
        private: as `private` gave it.

    Raises:
        ValueError: it is no key.
    """

    __slots__ = ("_key",)

    def __init__(self, private: Secret) -> None:
        raw = _decode(private.reveal())
        if raw is None or len(raw) != _KEY_BYTES:
            raise ValueError("not the private key of a device")
        self._key = Ed25519PrivateKey.from_private_bytes(raw)

    @classmethod
    def generate(cls) -> DeviceKey:
        """A fresh key."""
        return cls(Secret(_encode(secrets.token_bytes(_KEY_BYTES))))

    @property
    def private(self) -> Secret:
        """The key itself: 32 bytes in base64url."""
        return Secret(_encode(self._key.private_bytes_raw()))

    @property
    def public(self) -> str:
        """Its public part: 32 bytes in base64url, as `x` of a JWK (RFC 8037 section 2)."""
        return _encode(self._key.public_key().public_bytes_raw())

    def prove(self, purpose: Purpose, subject: str, now: float) -> str:
        """A proof that the key is held; each is another one.

        Args:
            purpose: what it is for.
            subject: what it is about; see `Purpose`.
            now: seconds since the Unix epoch, by the clock of who will check.
        """
        proof = Proof(aud=purpose, sub=subject, iat=int(now), jti=secrets.token_urlsafe(16))
        signed = f"{_encode(msgspec.json.encode(_HEADER))}.{_encode(msgspec.json.encode(proof))}"
        return f"{signed}.{_encode(self._key.sign(signed.encode()))}"


def is_public_key(text: str) -> bool:
    """Whether `text` is a public key as `DeviceKey.public` gives it."""
    raw = _decode(text)
    return raw is not None and len(raw) == _KEY_BYTES and _encode(raw) == text


def thumbprint(public_key: str) -> str:
    """A short name for a key (RFC 7638 section 3, RFC 8037 appendix A.3).

    Args:
        public_key: for which `is_public_key` holds.
    """
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{public_key}"}}'
    return _encode(hashlib.sha256(jwk.encode()).digest())


def check_proof(public_key: str, proof: str, purpose: Purpose, subject: str, now: float) -> Proof:
    """Check that whoever made `proof` holds the key, and made it for this and just now.

    Args:
        public_key: as the device gave it.
        proof: as it came.
        purpose: what it must be for.
        subject: what it must be about.
        now: seconds since the Unix epoch.

    Returns:
        What it says; its `jti` is to be taken once.

    Raises:
        InvalidProofError: it does not hold.
        StaleProofError: it would, but for the time in it.
    """
    if not is_public_key(public_key):
        raise InvalidProofError("the public key is not 32 bytes in base64url without padding")
    said = _verified(public_key, proof)
    if said.aud != purpose:
        raise InvalidProofError("the proof is for something else")
    if said.sub != subject:
        raise InvalidProofError("the proof is about something else")
    if abs(said.iat - now) > MAX_AGE:
        raise StaleProofError(
            f"the proof was made {said.iat - now:+.0f} s from now by the clock here; see the Date of this answer"
        )
    return said


def _verified(public_key: str, proof: str) -> Proof:
    if len(proof) > _MAX_PROOF or proof.count(".") != 2:
        raise InvalidProofError("the proof is not a JWS in compact form")
    head, payload, signature = proof.split(".")
    raw_head, raw_payload, raw_signature = _decode(head), _decode(payload), _decode(signature)
    if raw_head is None or raw_payload is None or raw_signature is None:
        raise InvalidProofError("the proof is not a JWS in compact form")
    try:
        header: Any = _decode_header(raw_head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidProofError("the header of the proof is not as agreed") from None
    if (header.alg, header.typ) != (_HEADER["alg"], _HEADER["typ"]):
        raise InvalidProofError("the proof is signed in another way than agreed")
    raw_key = _decode(public_key)
    assert raw_key is not None
    try:
        Ed25519PublicKey.from_public_bytes(raw_key).verify(raw_signature, f"{head}.{payload}".encode())
    except (InvalidSignature, ValueError):
        raise InvalidProofError("the proof is not signed with that key") from None
    try:
        return _decode_proof(raw_payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidProofError("the payload of the proof is not as agreed") from None


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    """The bytes of base64url without padding (RFC 7515 section 2); None when it is not."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    except (binascii.Error, ValueError):
        return None
