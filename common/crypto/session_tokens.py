"""Session tokens: what a device shows to the relay when it dials in.

A session token is a JWT (RFC 7519) signed with Ed25519 (`EdDSA`, RFC 8037 section 3.1). The API server signs with the
private key; the relay checks with public keys alone, so tunnels are admitted while the API server is down.

    header   {"alg": "EdDSA", "typ": "homeport-session+jwt", "kid": RFC 7638 thumbprint of the key}
    claims   iss "homeport" · aud "homeport-relay" · sub device id · team · name · jti credential id · iat · exp
             [nbf] · [service: the one service of a device without our agent, "web" when left out]

One algorithm, one type, one issuer, one audience: whatever else a token says, it is refused (RFC 8725 sections 3.1,
3.8, 3.9, 3.11). Claims that this version does not know are ignored.

Keys rotate by file: the signer signs with the first key of its set, the verifier accepts any key of its own. Put the
new key in the public file first, and take an old one out of it to end every token that it signed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, NewType

import msgspec
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from msgspec import Meta

from common.crypto.errors import ExpiredSessionTokenError, InvalidSessionTokenError, KeyFileError
from common.crypto.key_sets import parse_keys
from common.crypto.keyfiles import read_public, read_secret
from common.ids import DeviceId, ServiceName, TeamId, is_name
from common.secret import Secret

__all__ = [
    "DEFAULT_SERVICE",
    "CredentialId",
    "SessionClaims",
    "SessionTokenSigner",
    "SessionTokenVerifier",
]

CredentialId = NewType("CredentialId", str)
"""The id of one issued credential (`jti`), by which it is revoked."""

DEFAULT_SERVICE = ServiceName("web")
"""The service of a device without our agent, when its token names none."""

_ALGORITHM = "EdDSA"
_TYPE = "homeport-session+jwt"
_ISSUER = "homeport"
_AUDIENCE = "homeport-relay"

_MAX_LENGTH = 4096
"""Characters of a token; ours have about 500."""
_MAX_CREDENTIAL_LENGTH = 64
_LEEWAY = 30.0
"""Seconds that the clock of the signer may run ahead of ours. None for `exp`: an expired token is expired."""
_RECHECK_INTERVAL = 1.0
"""Seconds after which a change of the key file is noticed at the latest."""


class SessionClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a session token says. Times are seconds since the Unix epoch."""

    device: DeviceId
    device_name: str
    team: TeamId
    credential: CredentialId
    issued_at: float
    expires_at: float
    not_before: float | None = None
    service: ServiceName | None = None
    """The one service of a device without our agent; None when the token names none."""


_Time = Annotated[float, Meta(ge=0, le=2**53)]


class _Payload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    iss: str
    aud: str
    sub: str
    team: str
    name: str
    jti: Annotated[str, Meta(min_length=1, max_length=_MAX_CREDENTIAL_LENGTH)]
    iat: _Time
    exp: _Time
    nbf: _Time | None = None
    service: str | None = None


_decode_payload = msgspec.json.Decoder(_Payload).decode
_encode_payload = msgspec.json.Encoder().encode


class _Registry(jws.JWSRegistry):
    """Knows one algorithm. `EdDSA` names Ed25519 and Ed448 at once, which RFC 9864 deprecates for; here it stands for
    Ed25519 alone, and a key of another curve is refused.
    """

    def get_alg(self, name: str) -> Any:
        if name != _ALGORITHM:
            raise UnsupportedAlgorithmError(f"only {_ALGORITHM} is accepted")
        return self.algorithms["Ed25519"]


_REGISTRY = _Registry()


class SessionTokenSigner:
    """Signs session tokens with the first key of a private key set (RFC 7517 section 5).

    Raises:
        KeyFileError: the set holds no private Ed25519 key.
    """

    __slots__ = ("_header", "_key")

    def __init__(self, private_jwks: Secret) -> None:
        self._key = parse_keys(private_jwks.reveal(), "the private key set", private=True)[0]
        self._header = {"alg": _ALGORITHM, "typ": _TYPE, "kid": self._key.thumbprint()}

    @classmethod
    def from_file(cls, path: Path) -> SessionTokenSigner:
        """The signer whose key set is in `path`.

        Raises:
            KeyFileError: the file cannot be read or trusted, or holds no private Ed25519 key.
        """
        try:
            return cls(read_secret(path))
        except KeyFileError as exc:
            raise _in_file(exc, path) from exc.__cause__

    @property
    def key_id(self) -> str:
        """The id of the key that signs."""
        return str(self._header["kid"])

    def sign(self, claims: SessionClaims) -> Secret:
        """The token that says `claims`; times are rounded down to whole seconds."""
        payload = _Payload(
            iss=_ISSUER,
            aud=_AUDIENCE,
            sub=claims.device,
            team=claims.team,
            name=claims.device_name,
            jti=claims.credential,
            iat=int(claims.issued_at),
            exp=int(claims.expires_at),
            nbf=None if claims.not_before is None else int(claims.not_before),
            service=claims.service,
        )
        token = jws.serialize_compact(self._header, _encode_payload(payload), self._key, registry=_REGISTRY)
        return Secret(token)


class SessionTokenVerifier:
    """Checks session tokens against a set of public keys.

    Args:
        public_jwks: the key set (RFC 7517 section 5), as JSON text.
        path: the file that it came from; it is read anew when it changed.

    Raises:
        KeyFileError: the set holds no Ed25519 key.
    """

    __slots__ = ("_checked_at", "_keys", "_path", "_stamp", "reload_error")

    def __init__(self, public_jwks: str, path: Path | None = None) -> None:
        self._keys = _by_id(public_jwks)
        self._path = path
        self._stamp = _stamp(path)
        self._checked_at = 0.0
        self.reload_error: KeyFileError | None = None
        """Why the changed file could not be used; the keys that were read before stay in use. None when all is well."""

    @classmethod
    def from_file(cls, path: Path) -> SessionTokenVerifier:
        """The verifier whose key set is in `path`, and that follows changes of that file.

        Raises:
            KeyFileError: the file cannot be read or trusted, or holds no Ed25519 key.
        """
        text = read_public(path)
        try:
            return cls(text, path)
        except KeyFileError as exc:
            raise _in_file(exc, path) from exc.__cause__

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of the keys that are accepted."""
        return frozenset(self._keys)

    def verify(self, token: str, now: float) -> SessionClaims:
        """The claims of `token`, if it holds.

        Args:
            token: as it was presented.
            now: seconds since the Unix epoch.

        Raises:
            ExpiredSessionTokenError: it was valid, and has expired.
            InvalidSessionTokenError: anything else is wrong with it.
        """
        if len(token) > _MAX_LENGTH:
            raise InvalidSessionTokenError(f"the token is longer than {_MAX_LENGTH} characters")
        if not token.isascii():
            raise InvalidSessionTokenError("the token is not ASCII")
        if not 0.0 <= now - self._checked_at < _RECHECK_INTERVAL:
            self._checked_at = now
            self._reload_if_changed()
        return _claims(self._payload(token), now)

    def _payload(self, token: str) -> bytes:
        """The payload, once the signature holds (RFC 7515 section 5.2)."""
        try:
            signed = jws.extract_compact(token.encode("ascii"), registry=_REGISTRY)
            header = signed.headers()
            if header.get("typ") != _TYPE:
                raise InvalidSessionTokenError("the token is of another type")
            if header.keys() - {"alg", "typ", "kid"}:
                raise InvalidSessionTokenError("the token's header has parameters that are not understood")
            if not jws.validate_compact(signed, self._key(header.get("kid")), registry=_REGISTRY):
                raise InvalidSessionTokenError("the token's signature does not hold")
        except (JoseError, ValueError, TypeError, AttributeError) as exc:
            # What joserfc says may quote the token; the kind of error is all that is passed on.
            raise InvalidSessionTokenError("the text is no signed token of ours") from exc
        return signed.payload

    def _key(self, key_id: object) -> OKPKey:
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            # The signer may have begun to use a key that was put into the file a moment ago.
            self._reload_if_changed()
            key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise InvalidSessionTokenError("the token is signed with a key that is not known here")
        return key

    def _reload_if_changed(self) -> None:
        if self._path is None:
            return
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = _by_id(read_public(self._path))
            self.reload_error = None
        except KeyFileError as exc:
            self.reload_error = _in_file(exc, self._path)


def _claims(payload: bytes, now: float) -> SessionClaims:
    try:
        claims = _decode_payload(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidSessionTokenError("the token's claims are not as agreed") from exc
    if claims.iss != _ISSUER:
        raise InvalidSessionTokenError("the token is of another issuer")
    if claims.aud != _AUDIENCE:
        raise InvalidSessionTokenError("the token is for another audience")
    for claim in ("sub", "team", "name"):
        if not is_name(getattr(claims, claim)):
            raise InvalidSessionTokenError(f"the token's claim {claim!r} is not a name")
    if claims.service is not None and not is_name(claims.service):
        raise InvalidSessionTokenError("the token's claim 'service' is not a name")
    if claims.exp <= now:
        raise ExpiredSessionTokenError("the session token has expired; ask for a new one")
    if claims.iat > now + _LEEWAY or (claims.nbf is not None and claims.nbf > now + _LEEWAY):
        raise InvalidSessionTokenError("the token is not valid yet; is the clock of this machine right?")
    return SessionClaims(
        device=DeviceId(claims.sub),
        device_name=claims.name,
        team=TeamId(claims.team),
        credential=CredentialId(claims.jti),
        issued_at=claims.iat,
        expires_at=claims.exp,
        not_before=claims.nbf,
        service=None if claims.service is None else ServiceName(claims.service),
    )


def _by_id(public_jwks: str) -> dict[str, OKPKey]:
    """Keys by thumbprint, whatever `kid` the file gives them: the thumbprint is what our signer sends."""
    return {key.thumbprint(): key for key in parse_keys(public_jwks, "the public key set", private=False)}


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """What changes when the file does; None when there is none."""
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _in_file(error: KeyFileError, path: Path) -> KeyFileError:
    """`error`, naming the file."""
    return error if str(path) in error.detail else KeyFileError(f"{path}: {error.detail}")
