"""What the provider for development decides. No I/O; time is passed in.

It knows one public client, with PKCE S256 and nothing else, whose callback is on this machine at any port (RFC 8252
section 7.3): where the API listens is not known when this starts. Codes live for a minute and count once; what people
have open is kept in memory, so that a restart forgets it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
from joserfc import jws
from joserfc.jwk import ECKey

from common.secret import Secret
from common.urls import is_loopback_url
from homeport.dev_idp.errors import OAuthError
from homeport.dev_idp.people import DevPerson

__all__ = ["CALLBACK_PATH", "AuthorizationRequest", "DevProvider", "DevSession", "new_key"]

CALLBACK_PATH: Final = "/api/auth/callback"
_LOGOUT_PATH = "/api/auth/backchannel-logout"
_EVENT = "http://schemas.openid.net/event/backchannel-logout"

_CODE_LIFETIME = 60.0
_TOKEN_LIFETIME = 300.0
_MAX_KEPT = 1000
"""Codes, access tokens and sessions each; the oldest make way."""


class AuthorizationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is taken; carried through the page in hidden fields, and checked again when it comes back."""

    client_id: str
    redirect_uri: str
    response_type: str
    scope: str
    state: str = ""
    nonce: str = ""
    code_challenge: str
    code_challenge_method: str


@dataclass(frozen=True, slots=True)
class DevSession:
    """Somebody who signed in."""

    sid: str
    person: DevPerson
    origin: str
    """Of the API."""


@dataclass(frozen=True, slots=True)
class _Grant:
    request: AuthorizationRequest
    session: DevSession
    until: float


def new_key() -> Secret:
    """A fresh signing key, as JSON."""
    return Secret(msgspec.json.encode(ECKey.generate_key("P-256", private=True).as_dict(private=True)).decode())


class DevProvider:
    """The provider.

    Args:
        issuer: its URL.
        client_id: of its one client.
        key: as `new_key` makes it.

    Raises:
        ValueError: it is no key.
    """

    def __init__(self, issuer: str, client_id: str, key: Secret) -> None:
        self.issuer = issuer
        self._client_id = client_id
        self._key = ECKey.import_key(msgspec.json.decode(key.reveal(), type=dict[str, Any]))
        self._kid = self._key.thumbprint()
        self._grants: dict[str, _Grant] = {}
        self._access: dict[str, _Grant] = {}
        self.sessions: dict[str, DevSession] = {}
        """By `sid`."""

    def metadata(self) -> dict[str, Any]:
        """The discovery document."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "end_session_endpoint": f"{self.issuer}/end-session",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "scopes_supported": ["openid", "email", "profile"],
            "authorization_response_iss_parameter_supported": True,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
        }

    def keys(self) -> dict[str, Any]:
        """The key set."""
        public = {**self._key.as_dict(private=False), "kid": self._kid, "use": "sig", "alg": "ES256"}
        return {"keys": [public]}

    def check(self, parameters: Mapping[str, str]) -> AuthorizationRequest:
        """An authorization request, if it is one that is taken.

        Raises:
            OAuthError: it is not. The browser is not sent back: the page says what is wrong.
        """
        try:
            request = msgspec.convert(dict(parameters), AuthorizationRequest)
        except msgspec.ValidationError as exc:
            raise OAuthError("invalid_request", f"the request lacks something: {exc}") from exc
        if request.client_id != self._client_id:
            raise OAuthError("invalid_client", "the only client here is Homeport")
        if not _is_callback(request.redirect_uri):
            raise OAuthError("invalid_request", f"the redirect_uri must be {CALLBACK_PATH} on this machine")
        if request.response_type != "code" or "openid" not in request.scope.split():
            raise OAuthError("invalid_request", "only response_type=code with the scope openid is known here")
        if request.code_challenge_method != "S256" or len(request.code_challenge) != 43:
            raise OAuthError("invalid_request", "PKCE with S256 is needed")
        return request

    def grant(self, request: AuthorizationRequest, person: DevPerson, now: float) -> tuple[str, DevSession]:
        """Where the browser goes once somebody was chosen, and their session."""
        parts = urlsplit(request.redirect_uri)
        session = DevSession(secrets.token_hex(16), person, f"{parts.scheme}://{parts.netloc}")
        _keep(self.sessions, session.sid, session)
        code = secrets.token_urlsafe(32)
        _keep(self._grants, code, _Grant(request, session, now + _CODE_LIFETIME))
        answer = {"code": code, "state": request.state, "iss": self.issuer}
        return f"{request.redirect_uri}?{urlencode(answer)}", session

    def redeem(self, form: Mapping[str, str], now: float) -> dict[str, Any]:
        """Tokens for a code.

        Raises:
            OAuthError: the code is not taken.
        """
        if form.get("grant_type") != "authorization_code":
            raise OAuthError("unsupported_grant_type", "only authorization_code is known here")
        if form.get("client_id") != self._client_id:
            raise OAuthError("invalid_client", "the only client here is Homeport")
        grant = self._grants.pop(form.get("code", ""), None)
        if grant is None or grant.until <= now or form.get("redirect_uri") != grant.request.redirect_uri:
            raise OAuthError("invalid_grant", "the code was used, is too old, or belongs to another request")
        challenge = _hash(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if not hmac.compare_digest(challenge, grant.request.code_challenge):
            raise OAuthError("invalid_grant", "the code verifier is not the one of the request")
        access = secrets.token_urlsafe(32)
        _keep(self._access, access, _Grant(grant.request, grant.session, now + _TOKEN_LIFETIME))
        claims = self._claims(grant.session, now) | {
            "auth_time": int(now),
            "at_hash": _hash(hashlib.sha256(access.encode()).digest()[:16]),
            **_about(grant.session.person),
        }
        if grant.request.nonce:
            claims["nonce"] = grant.request.nonce
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": int(_TOKEN_LIFETIME),
            "id_token": self._sign(claims, "JWT"),
        }

    def userinfo(self, access_token: str, now: float) -> dict[str, Any] | None:
        """Whose access token that is; None when it is nobody's."""
        grant = self._access.get(access_token)
        return None if grant is None or grant.until <= now else _about(grant.session.person)

    def end(self, sid: str, now: float) -> tuple[str, str] | None:
        """End a session: where its logout token goes, and the token; None when there is no such session."""
        session = self.sessions.pop(sid, None)
        if session is None:
            return None
        claims = self._claims(session, now) | {"jti": secrets.token_hex(16), "events": {_EVENT: {}}}
        return session.origin + _LOGOUT_PATH, self._sign(claims, "logout+jwt")

    def return_address(self, parameters: Mapping[str, str]) -> str | None:
        """Where a browser goes after it has signed out, if that is on this machine."""
        url = parameters.get("post_logout_redirect_uri", "")
        return url if _is_local(url) else None

    def _claims(self, session: DevSession, now: float) -> dict[str, Any]:
        return {
            "iss": self.issuer,
            "sub": session.person.subject,
            "aud": self._client_id,
            "iat": int(now),
            "exp": int(now + _TOKEN_LIFETIME),
            "sid": session.sid,
        }

    def _sign(self, claims: Mapping[str, Any], typ: str) -> str:
        header = {"alg": "ES256", "kid": self._kid, "typ": typ}
        return jws.serialize_compact(header, msgspec.json.encode(claims), self._key, algorithms=["ES256"])


def _about(person: DevPerson) -> dict[str, Any]:
    return {"sub": person.subject, "name": person.name, "email": person.email, "email_verified": True}


def _is_callback(url: str) -> bool:
    return _is_local(url) and urlsplit(url).path == CALLBACK_PATH and not urlsplit(url).query


def _is_local(url: str) -> bool:
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or "#" in url:
        return False
    return is_loopback_url(url) and urlsplit(url).scheme in ("http", "https") and urlsplit(url).username is None


def _keep(kept: dict[str, Any], key: str, value: object) -> None:
    kept[key] = value
    if len(kept) > _MAX_KEPT:
        del kept[next(iter(kept))]


def _hash(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
