"""What is said about a provider to which people connect: an entry of the table `providers`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from common.ids import is_name
from common.secret import Secret
from common.settings import Seconds
from common.urls import is_usable

__all__ = ["ProviderKind", "ProviderSettings", "check_providers"]


class ProviderKind(StrEnum):
    """How a provider is spoken to."""

    GITHUB = "github"
    GITLAB = "gitlab"
    BITBUCKET = "bitbucket"
    OIDC = "oidc"


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One provider."""

    kind: Annotated[
        ProviderKind | None,
        Meta(description="What it is; by default what NAME says, or oidc."),
    ] = None
    title: Annotated[str | None, Meta(description="Its name for people; by default NAME.")] = None
    client_id: Annotated[str, Meta(min_length=1, max_length=512, description="What the provider knows Homeport as.")]
    client_secret: Annotated[
        Secret | None,
        Meta(description="Secret of that client; without one Homeport is a public client, whose one proof is PKCE."),
    ] = None
    url: Annotated[
        str | None,
        Meta(
            description="Base URL of the provider, by default that of the public service; of an OpenID provider the "
            "issuer, to the letter."
        ),
    ] = None
    api_url: Annotated[
        str | None,
        Meta(description="Base URL of GitHub's REST API; by default that of the public service, or url and /api/v3."),
    ] = None
    scopes: Annotated[
        tuple[str, ...] | None,
        Meta(description="Scopes that are asked for; by default what it takes to read and write repositories."),
    ] = None
    parameters: Annotated[
        dict[str, str],
        Meta(description="Further parameters of the authorization request, such as access_type=offline for Google."),
    ] = msgspec.field(default_factory=dict)
    refresh_margin: Annotated[
        Seconds,
        Meta(
            description="Time before the end of an access token at which it is refreshed; at most a fifth of its life."
        ),
    ] = 600.0

    def __post_init__(self) -> None:
        for name in ("url", "api_url"):
            url = getattr(self, name)
            if url is not None and not is_usable(url, loopback=True):
                raise ValueError(f"{name} must be an https URL without query; http is for a provider on this machine")
        if taken := self.parameters.keys() & _OURS:
            raise ValueError(f"parameters must not say {', '.join(sorted(taken))}: Homeport does")

    def kind_of(self, name: str) -> ProviderKind:
        """What the provider of that name is."""
        if self.kind is not None:
            return self.kind
        return ProviderKind(name) if name in list(ProviderKind) else ProviderKind.OIDC


_OURS = frozenset(
    {
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "redirect_uri",
        "response_mode",
        "response_type",
        "scope",
        "state",
    }
)
"""Parameters of the authorization request that decide whether it is safe."""


def check_providers(providers: dict[str, ProviderSettings]) -> None:
    """Check the whole table.

    Raises:
        ValueError: a name is none, or an OpenID provider has no issuer.
    """
    for name, each in providers.items():
        if not is_name(name):
            raise ValueError("providers must be named by lower-case letters, digits, single hyphens; at most 40")
        if each.kind_of(name) is ProviderKind.OIDC and each.url is None:
            raise ValueError(f"providers.{name}.url is needed: the issuer of the OpenID provider")
