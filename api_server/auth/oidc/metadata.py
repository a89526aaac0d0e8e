"""What a provider says about itself (OpenID Connect Discovery section 3), checked."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api_server.auth.oidc.jose import ALGORITHMS
from common.urls import is_loopback_url, is_usable

__all__ = ["ProviderMetadata", "discovery_url", "read_metadata"]

_ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "end_session_endpoint",
    "revocation_endpoint",
)

_Words = Annotated[tuple[str, ...], Meta(max_length=200)]


class ProviderMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The members that are used here."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    revocation_endpoint: str | None = None
    """RFC 7009, as RFC 8414 section 2 names it."""
    token_endpoint_auth_methods_supported: _Words = ("client_secret_basic",)
    """The default is the specification's."""
    id_token_signing_alg_values_supported: _Words = ("RS256",)
    code_challenge_methods_supported: _Words | None = None
    """None where the provider does not say (RFC 8414 section 2); Entra does not."""
    authorization_response_iss_parameter_supported: bool = False
    """RFC 9207 section 3."""

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What its tokens may be signed with: what it says, of what we accept."""
        return tuple(each for each in ALGORITHMS if each in self.id_token_signing_alg_values_supported)


def discovery_url(issuer: str) -> str:
    """Where the provider describes itself (Discovery section 4)."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def read_metadata(document: bytes, issuer: str) -> ProviderMetadata:
    """The description of a provider.

    Args:
        document: JSON, as received.
        issuer: as the settings say it. The document must say the very same (Discovery section 4.3), or one provider
            could pass for another.

    Raises:
        ValueError: it cannot be used; the text says why, and is safe to show.
    """
    try:
        metadata = msgspec.json.decode(document, type=ProviderMetadata)
    except msgspec.ValidationError as exc:
        raise ValueError(f"its discovery document lacks something: {exc}") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError("its discovery document is not JSON") from exc
    if metadata.issuer != issuer:
        raise ValueError(
            "its discovery document names another issuer than oidc_issuer; they must be equal to the letter"
        )
    loopback = is_loopback_url(issuer)
    for name in _ENDPOINTS:
        url = getattr(metadata, name)
        if url is not None and not is_usable(url, loopback=loopback, query=True):
            raise ValueError(f"its {name} is not an https URL")
    methods = metadata.code_challenge_methods_supported
    if methods is not None and "S256" not in methods:
        raise ValueError("it does not know PKCE with S256")
    if not metadata.algorithms:
        raise ValueError("it signs with no algorithm that is accepted here")
    return metadata
