"""A provider in memory that a test can make lie: it implements `Fetcher`, and signs whatever it is told to."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from api_server.auth.oidc.answer import Answer
from api_server.auth.oidc.errors import ProviderUnavailableError

__all__ = ["CLIENT", "EVENT", "ISSUER", "NOW", "FakeProvider", "compact", "ec_key", "okp_key", "rsa_key", "unsigned"]

ISSUER = "https://provider.test"
CLIENT = "homeport-tests"
NOW = 1_700_000_000.0
"""What the fake clock of the tests says."""
EVENT = "http://schemas.openid.net/event/backchannel-logout"

_ALL = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "HS256"]


@cache
def rsa_key(name: str = "rsa", bits: int = 2048) -> RSAKey:
    return RSAKey.generate_key(bits, {"kid": name}, private=True)


@cache
def ec_key(name: str = "ec", curve: Any = "P-256") -> ECKey:
    return ECKey.generate_key(curve, {"kid": name}, private=True)


@cache
def okp_key(name: str = "okp") -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": name}, private=True)


def encode(part: object) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header: Mapping[str, object], claims: Mapping[str, object], signature: bytes = b"") -> str:
    """A token that nobody signed."""
    return f"{encode(header)}.{encode(claims)}.{encode(signature)}"


def compact(
    claims: Mapping[str, object] | bytes, key: RSAKey | ECKey | OKPKey | OctKey, alg: str, **header: object
) -> str:
    """A signed token. EdDSA is signed as what it stands for."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    members = {"alg": alg, **header}
    if alg == "EdDSA":
        signing_input = f"{encode(members)}.{encode(payload)}"
        assert isinstance(key, OKPKey)
        return f"{signing_input}.{encode(key.private_key.sign(signing_input.encode()))}"
    return jws.serialize_compact(members, payload, key, algorithms=_ALL)


class FakeProvider:
    """Answers as a provider does, unless a test changes one of its attributes.

    Args:
        issuer: what it calls itself.
    """

    def __init__(self, issuer: str = ISSUER) -> None:
        self.issuer = issuer
        self.key: RSAKey | ECKey | OKPKey = ec_key()
        self.alg = "ES256"
        self.discovery: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "end_session_endpoint": f"{issuer}/end",
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "PS256", "ES384", "EdDSA", "HS256", "none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        self.published: list[dict[str, Any]] = [dict(self.key.as_dict(private=False))]
        self.person: dict[str, Any] = {
            "sub": "person-1",
            "name": "Ada Lovelace",
            "email": "ada@example.org",
            "email_verified": True,
            "sid": "provider-session-1",
        }
        self.claims: dict[str, Any] = {}
        """Put over those of the next ID tokens; None takes one away."""
        self.header: dict[str, Any] = {}
        self.id_token: str | None = None
        """Given as it is, instead of one that is made."""
        self.more_tokens: dict[str, Any] = {}
        """Given beside the usual ones."""
        self.userinfo: dict[str, Any] | None = None
        self.now = NOW
        self.away: set[str] = set()
        """Paths that do not answer."""
        self.answers: dict[str, Answer] = {}
        """By path, instead of the usual one."""
        self.asked: list[str] = []
        """Paths."""
        self.forms: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.codes: dict[str, dict[str, str]] = {}
        """Authorization requests by the code that was given for them."""

    # The browser's side

    def authorize(self, url: str, **changes: str) -> dict[str, str]:
        """What the browser brings back after the person has signed in at `url`."""
        request = dict(parse_qsl(urlsplit(url).query))
        code = f"code-{len(self.codes)}"
        self.codes[code] = request
        return {"code": code, "state": request["state"], "iss": self.issuer} | changes

    # Ours

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        path = self._answer(url, headers)
        if path in self.answers:
            return self.answers[path]
        body: object = {
            "/.well-known/openid-configuration": self.discovery,
            "/jwks": {"keys": self.published},
            "/userinfo": self.userinfo,
        }[path]
        return Answer(200, json.dumps(body).encode())

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        path = self._answer(url, headers)
        self.forms.append(dict(form))
        if path in self.answers:
            return self.answers[path]
        if form["grant_type"] == "client_credentials":
            return _json(200, {"access_token": f"service-{len(self.forms)}", "token_type": "Bearer", "expires_in": 120})
        request = self.codes.pop(form["code"], None)
        if request is None or not _proves(request["code_challenge"], form["code_verifier"]):
            return _json(400, {"error": "invalid_grant", "error_description": "<b>no</b>"})
        token = self.id_token if self.id_token is not None else self.made_id_token(request.get("nonce", ""))
        given = {"access_token": "access", "token_type": "bearer", "id_token": token, "expires_in": 60}
        return _json(200, given | self.more_tokens)

    async def aclose(self) -> None:
        self.asked.append("closed")

    def _answer(self, url: str, headers: Mapping[str, str] | None) -> str:
        parts = urlsplit(url)
        self.asked.append(parts.path)
        self.headers.append(dict(headers or {}))
        if parts.path in self.away:
            raise ProviderUnavailableError("it does not answer", retry_after=7)
        return parts.path

    # Tokens

    def made_id_token(self, nonce: str) -> str:
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": self.now,
            "exp": self.now + 300,
            "nonce": nonce,
            **self.person,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return compact(claims, self.key, self.alg, **{"kid": self.key.kid, **self.header})

    def logout_token(self, *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """A logout token; a claim that is None is left out."""
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": self.now,
            "exp": self.now + 120,
            "jti": "logout-1",
            "events": {EVENT: {}},
            "sub": self.person["sub"],
            "sid": self.person["sid"],
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        members = {"kid": self.key.kid, "typ": "logout+jwt", **(header or {})}
        return compact(claims, self.key, self.alg, **{key: value for key, value in members.items() if value})


def _json(status: int, content: object) -> Answer:
    return Answer(status, json.dumps(content).encode())


def _proves(challenge: str, verifier: str) -> bool:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode() == challenge
