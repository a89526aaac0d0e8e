"""Signed tokens of the provider: keys as it publishes them, and what is checked before a claim is looked at.

    length  ->  three parts  ->  header: alg on the list, no crit, typ as expected  ->  key by kid, of the algorithm's
    kind  ->  signature  ->  payload

The algorithm decides which kind of key may verify, never the token alone: all on the list are asymmetric, so that a
public key can be no HMAC secret (RFC 8725 sections 2.1, 3.1), and `none` is no algorithm. Keys come from the
provider's key set only: `jwk`, `jku`, `x5c` and `x5u` of a header are not looked at.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from msgspec import Meta

from api_server.auth.oidc.errors import TokenError, UnknownKeyError

__all__ = ["ALGORITHMS", "KeySet", "Verified", "verify"]

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
"""What a provider may sign with. RS256 is what every one of them can do (Core section 15.1)."""

_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}
_MIN_RSA_BITS = 2048
"""RFC 7518 section 3.3."""
_MAX_RSA_BITS = 8192
"""What is larger costs more time to verify than a sign-in is worth."""
_MAX_TOKEN = 16 * 1024
"""Characters; a token with many claims has about 4,000."""
_MAX_KEYS = 64
_MAX_CANDIDATES = 4
"""Keys under one kid that are tried."""

_PublicKey = RSAKey | ECKey | OKPKey
T = TypeVar("T")


class _Jwk(msgspec.Struct, frozen=True):
    """The public members of a key (RFC 7517, RFC 7518 section 6, RFC 8037 section 2). Whatever else it has is left."""

    kty: str
    kid: Annotated[str, Meta(max_length=512)] | None = None
    use: str | None = None
    key_ops: list[str] | None = None
    alg: str | None = None
    crv: str | None = None
    n: Annotated[str, Meta(max_length=4096)] | None = None
    e: Annotated[str, Meta(max_length=16)] | None = None
    x: Annotated[str, Meta(max_length=256)] | None = None
    y: Annotated[str, Meta(max_length=256)] | None = None


class _Jwks(msgspec.Struct, frozen=True):
    keys: Annotated[list[msgspec.Raw], Meta(max_length=_MAX_KEYS)]


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None
    typ: str | None = None
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str | None
    alg: str | None
    kind: str
    """`RSA`, or the curve."""
    key: _PublicKey

    def fits(self, alg: str) -> bool:
        if self.alg is not None and self.alg != alg and (self.alg, alg) != ("Ed25519", "EdDSA"):
            return False
        return self.kind == _CURVES.get(alg, "RSA")


class KeySet:
    """The keys with which a provider signs.

    Args:
        document: the JSON of its key set (RFC 7517 section 5). Keys of kinds that we do not know, for encryption, or
            weak, are left out, as section 5 wants it.

    Raises:
        ValueError: it is no key set.
    """

    __slots__ = ("_keys",)

    def __init__(self, document: bytes) -> None:
        try:
            raw = msgspec.json.decode(document, type=_Jwks).keys
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise ValueError("not a JSON Web Key Set") from exc
        self._keys = tuple(key for each in raw if (key := _public_key(each)) is not None)

    def __len__(self) -> int:
        return len(self._keys)

    def candidates(self, alg: str, kid: str | None) -> Sequence[_PublicKey]:
        """The keys that may have signed: those named `kid`; without one, the only one there is for `alg`."""
        fitting = [each for each in self._keys if each.fits(alg)]
        if kid is not None:
            return [each.key for each in fitting if each.kid == kid][:_MAX_CANDIDATES]
        return [fitting[0].key] if len(fitting) == 1 else []


def _public_key(raw: msgspec.Raw) -> _Key | None:
    try:
        jwk = msgspec.json.decode(raw, type=_Jwk)
        if jwk.use not in (None, "sig") or (jwk.key_ops is not None and "verify" not in jwk.key_ops):
            return None
        match jwk.kty, jwk.crv:
            case "RSA", _ if jwk.n and jwk.e:
                bits = (len(jwk.n) * 6) // 8 * 8
                if not _MIN_RSA_BITS <= bits <= _MAX_RSA_BITS:
                    return None
                return _Key(jwk.kid, jwk.alg, "RSA", RSAKey.import_key({"kty": "RSA", "n": jwk.n, "e": jwk.e}))
            case "EC", str(curve) if curve in _CURVES.values() and jwk.x and jwk.y:
                ec = ECKey.import_key({"kty": "EC", "crv": curve, "x": jwk.x, "y": jwk.y})
                ec.public_key.public_numbers()  # the library builds the key, and checks the point, when first asked
                return _Key(jwk.kid, jwk.alg, curve, ec)
            case "OKP", "Ed25519" if jwk.x:
                return _Key(
                    jwk.kid, jwk.alg, "Ed25519", OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": jwk.x})
                )
            case _:
                return None
    except (msgspec.MsgspecError, JoseError, ValueError, TypeError, binascii.Error):
        return None


@dataclass(frozen=True, slots=True)
class Verified:
    """A token whose signature holds. Its claims are still to be checked."""

    alg: str
    typ: str | None
    payload: bytes


class _Registry(jws.JWSRegistry):
    """`EdDSA` stands for Ed25519 alone, and no other name than those on the list is known."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms["Ed25519" if name == "EdDSA" else name]


_REGISTRY = _Registry(algorithms=[*ALGORITHMS, "Ed25519"])


def verify(
    token: str,
    keys: KeySet,
    *,
    algorithms: Sequence[str] = ALGORITHMS,
    error: type[TokenError],
    types: Sequence[str | None],
) -> Verified:
    """Check everything about a token that does not depend on its claims.

    Args:
        token: as received.
        keys: of the provider.
        algorithms: that may have signed.
        error: raised when it does not hold.
        types: values of `typ` that it may have, in lower case without `application/` (RFC 7515 section 4.1.9); None
            stands for none.

    Raises:
        UnknownKeyError: no key of the set may have signed it: fetch the set anew, and try again.
        TokenError: `error`.
    """
    if len(token) > _MAX_TOKEN or not token.isascii() or token.count(".") != 2:
        raise error("not a signed token in compact form")
    header = decode_part(token.partition(".")[0], _Header, error)
    if header.alg not in algorithms or header.alg not in ALGORITHMS:
        raise error("the algorithm is not one of those that are accepted")
    if header.crit is not msgspec.UNSET or header.b64 is not msgspec.UNSET:
        raise error("the header wants an extension that is not known here")
    typ = None if header.typ is None else header.typ.lower().removeprefix("application/")
    if typ not in types:
        raise error("the token is of another type")
    candidates = keys.candidates(header.alg, header.kid)
    if not candidates:
        raise UnknownKeyError("the provider publishes no key that fits the token")
    for key in candidates:
        try:
            signed = jws.deserialize_compact(token, key, registry=_REGISTRY)
        except (JoseError, ValueError, TypeError):
            continue
        return Verified(header.alg, typ, signed.payload)
    raise error("the signature does not hold")


def decode_part(part: str, kind: type[T], error: type[TokenError]) -> T:
    """A base64url part of a token as a struct."""
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise error("the token is not base64url") from None
    return decode_claims(decoded, kind, error)


def decode_claims(payload: bytes, kind: type[T], error: type[TokenError]) -> T:
    """JSON as a struct; the error names what is wrong with it, and quotes nothing."""
    try:
        return msgspec.json.decode(payload, type=kind)
    except msgspec.ValidationError as exc:
        raise error(f"a claim is missing or wrong: {exc}") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise error("the token does not hold JSON") from exc
