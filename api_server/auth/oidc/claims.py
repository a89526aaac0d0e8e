"""What a token of the provider says, checked: ID tokens after sign-in, and logout tokens.

Times are seconds since the Unix epoch. Clocks may differ by `LEEWAY`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api_server.auth.oidc.errors import InvalidIdTokenError, InvalidLogoutTokenError, TokenError
from api_server.auth.oidc.jose import Verified, decode_claims

__all__ = [
    "BACK_CHANNEL_LOGOUT",
    "ID_TOKEN_TYPES",
    "LEEWAY",
    "LOGOUT_TOKEN_TYPES",
    "LogoutClaims",
    "Person",
    "Profile",
    "check_id_token",
    "check_logout_token",
    "person_of",
]

LEEWAY: Final = 60.0
"""Seconds that two clocks may differ."""

_MAX_AGE = 600.0
"""Seconds since an ID token was made: it comes straight from the token endpoint."""

_MAX_LOGOUT_AGE = 300.0
"""Seconds since a logout token was made. Back-Channel Logout section 4 recommends a life of two minutes."""

ID_TOKEN_TYPES: Final = (None, "jwt")
LOGOUT_TOKEN_TYPES: Final = ("logout+jwt",)
"""Explicit typing (Back-Channel Logout section 2.4): nothing else that the provider signs can pass for one."""

BACK_CHANNEL_LOGOUT: Final = "http://schemas.openid.net/event/backchannel-logout"

_MAX_SUBJECT = 255
"""Characters: Core section 2."""
_MAX_NAME = 200
_MAX_EMAIL = 254
"""RFC 5321 section 4.5.3.1.3, less the angle brackets."""
_MAX_SID = 255

_Time = Annotated[float, Meta(ge=0, le=2**53)]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Standard claims about a person (Core section 5.1), in an ID token or from the userinfo endpoint. Providers give
    what they like here, so that anything of another type counts as not given."""

    sub: str
    name: Any = None
    preferred_username: Any = None
    email: Any = None
    email_verified: Any = None

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to ask for."""
        return isinstance(self.name, str) and isinstance(self.email, str)


class _IdToken(Profile, frozen=True, kw_only=True):
    iss: str
    aud: str | list[str]
    exp: _Time
    iat: _Time
    nonce: str | None = None
    azp: str | None = None
    at_hash: str | None = None
    nbf: _Time | None = None
    sid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who signed in."""

    issuer: str
    subject: str
    """With `issuer` the only name of a person that never changes (Core section 5.7)."""
    name: str
    email: str | None
    email_verified: bool
    provider_session: str | None
    """The `sid` by which the provider will end the session."""


@dataclass(frozen=True, slots=True)
class CheckedIdToken:
    """An ID token that holds."""

    issuer: str
    profile: Profile
    provider_session: str | None


def check_id_token(
    token: Verified, *, issuer: str, client_id: str, nonce: str, access_token: str | None, now: float
) -> CheckedIdToken:
    """Check the claims of an ID token from the token endpoint (Core section 3.1.3.7; the numbers are its steps).

    Args:
        token: whose signature holds (6, 7, 8).
        issuer: of the provider, exactly.
        client_id: ours.
        nonce: of the transaction.
        access_token: that came with it, for `at_hash` (3.1.3.8).
        now: seconds since the epoch.

    Raises:
        InvalidIdTokenError: it does not hold.
    """
    claims = decode_claims(token.payload, _IdToken, InvalidIdTokenError)
    _check_common(claims.iss, claims.aud, issuer, client_id, InvalidIdTokenError)  # 2, 3
    several = isinstance(claims.aud, list) and len(claims.aud) > 1
    if (several and claims.azp is None) or (claims.azp is not None and claims.azp != client_id):
        raise InvalidIdTokenError("azp: the token was made for another client")  # 4, 5
    if claims.exp <= now - LEEWAY:
        raise InvalidIdTokenError("exp: the token has expired")  # 9
    if not now - _MAX_AGE - LEEWAY <= claims.iat <= now + LEEWAY:
        raise InvalidIdTokenError("iat: the token was not made just now")  # 10
    if claims.nbf is not None and claims.nbf > now + LEEWAY:
        raise InvalidIdTokenError("nbf: the token does not hold yet")
    if claims.nonce is None or not hmac.compare_digest(claims.nonce.encode(), nonce.encode()):
        raise InvalidIdTokenError("nonce: the token belongs to another sign-in")  # 11
    if claims.at_hash is not None and access_token is not None:
        expected = _half_hash(token.alg, access_token)
        if not hmac.compare_digest(claims.at_hash.encode(), expected.encode()):
            raise InvalidIdTokenError("at_hash: the access token is not the one that the ID token came with")
    if not 0 < len(claims.sub) <= _MAX_SUBJECT or not claims.sub.isprintable():
        raise InvalidIdTokenError("sub: a subject has 1 to 255 characters, all of them printable")
    if claims.sid is not None and (len(claims.sid) > _MAX_SID or not claims.sid.isprintable()):
        raise InvalidIdTokenError("sid: a session id has at most 255 characters, all of them printable")
    return CheckedIdToken(claims.iss, claims, claims.sid)


def person_of(token: CheckedIdToken, profile: Profile | None) -> Person:
    """Who signed in, by the ID token and what the userinfo endpoint adds.

    Args:
        token: that holds.
        profile: from userinfo; None when it was not asked.

    Raises:
        InvalidIdTokenError: userinfo is about somebody else (Core section 5.3.2).
    """
    if profile is not None and profile.sub != token.profile.sub:
        raise InvalidIdTokenError("userinfo: it is about another person")
    sources = [token.profile] if profile is None else [token.profile, profile]
    email, verified = None, False
    for source in sources:
        if (found := _text(source.email, _MAX_EMAIL)) and "@" in found:
            # From one source both: an address that one vouches for says nothing about that of the other.
            email, verified = found, source.email_verified is True or source.email_verified == "true"
            break
    names = [_text(each, _MAX_NAME) for source in sources for each in (source.name, source.preferred_username)]
    name = next(filter(None, [*names, email, token.profile.sub[:_MAX_NAME]]))
    return Person(
        issuer=token.issuer,
        subject=token.profile.sub,
        name=name,
        email=email,
        email_verified=verified,
        provider_session=token.provider_session,
    )


def _text(value: object, limit: int) -> str | None:
    """A claim as one line for people; None when it is none, or longer than any real one."""
    if not isinstance(value, str):
        return None
    line = " ".join(value.split())
    return line if line.isprintable() and 0 < len(line) <= limit else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutClaims:
    """Whose sessions the provider ends."""

    issuer: str
    subject: str | None
    provider_session: str | None
    """That session only; None for every session of the subject."""
    token_id: str
    expires_at: float
    """Until then the token's id is to be remembered: it counts once."""


class _LogoutToken(msgspec.Struct, frozen=True, kw_only=True):
    iss: str
    aud: str | list[str]
    iat: _Time
    jti: Annotated[str, Meta(min_length=1, max_length=255)]
    events: Mapping[str, msgspec.Raw]
    exp: _Time | None = None
    sub: Annotated[str, Meta(min_length=1, max_length=_MAX_SUBJECT)] | None = None
    sid: Annotated[str, Meta(min_length=1, max_length=_MAX_SID)] | None = None
    nonce: msgspec.Raw | UnsetType = UNSET


def check_logout_token(token: Verified, *, issuer: str, client_id: str, now: float) -> LogoutClaims:
    """Check the claims of a logout token (Back-Channel Logout section 2.6). That its id was not seen before is the
    caller's to check.

    Args:
        token: whose signature and type hold.
        issuer: of the provider, exactly.
        client_id: ours.
        now: seconds since the epoch.

    Raises:
        InvalidLogoutTokenError: it does not hold.
    """
    claims = decode_claims(token.payload, _LogoutToken, InvalidLogoutTokenError)
    _check_common(claims.iss, claims.aud, issuer, client_id, InvalidLogoutTokenError)
    if not now - _MAX_LOGOUT_AGE - LEEWAY <= claims.iat <= now + LEEWAY:
        raise InvalidLogoutTokenError("iat: the token was not made just now")
    if claims.exp is not None and claims.exp <= now - LEEWAY:
        raise InvalidLogoutTokenError("exp: the token has expired")
    event = claims.events.get(BACK_CHANNEL_LOGOUT)
    if event is None or not bytes(event).lstrip().startswith(b"{"):
        raise InvalidLogoutTokenError("events: the token says nothing of a logout")
    if claims.nonce is not UNSET:
        raise InvalidLogoutTokenError("nonce: a logout token has none")
    if claims.sub is None and claims.sid is None:
        raise InvalidLogoutTokenError("sub, sid: one of them is needed")
    if not all(each.isprintable() for each in (claims.jti, claims.sub or "", claims.sid or "")):
        raise InvalidLogoutTokenError("jti, sub, sid: all of their characters must be printable")
    return LogoutClaims(
        issuer=claims.iss,
        subject=claims.sub,
        provider_session=claims.sid,
        token_id=claims.jti,
        # After this moment `iat` refuses it.
        expires_at=claims.iat + _MAX_LOGOUT_AGE + 2 * LEEWAY,
    )


def _check_common(iss: str, aud: str | list[str], issuer: str, client_id: str, error: type[TokenError]) -> None:
    if iss != issuer:
        raise error("iss: the token was made by another provider")
    if client_id not in ([aud] if isinstance(aud, str) else aud):
        raise error("aud: the token was made for another client")


def _half_hash(alg: str, text: str) -> str:
    """Core section 3.1.3.6: the left half of the hash of the signature's own algorithm. That of Ed25519 is SHA-512."""
    hashes = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
    digest = hashes.get(alg[-3:], hashlib.sha512)(text.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
