"""What tells providers apart: endpoints, scopes, and how a grant is taken back. No I/O.

               endpoints                       proof of the client   a grant is taken back by
    GitHub     fixed, by base URL              in the form           DELETE .../applications/{client}/grant of its API
    GitLab     fixed, by base URL              in the form           RFC 7009
    Bitbucket  fixed, by base URL              Basic                 nothing: the person does it at Bitbucket
    OpenID     discovery, see `auth.oidc`      as it says            RFC 7009, where it says so

The fixed ones are described by the same struct as an OpenID provider describes itself, so that authorization requests,
callbacks and token requests are those of sign-in.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote

import msgspec

from api_server.auth.oidc.metadata import ProviderMetadata
from api_server.auth.oidc.requests import Client, token_request
from api_server.provider_tokens.settings import ProviderKind, ProviderSettings
from common.secret import Secret

__all__ = ["BITBUCKET", "GITHUB", "GITLAB", "OPENID", "KindOfProvider", "Revocation", "kind_of"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """A request that takes a token, or a grant, back."""

    method: str
    url: str
    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes = field(default=b"", repr=False)
    """In place of the form: JSON."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    done: frozenset[int] = frozenset({200})
    """Statuses that say that it is taken back."""


class KindOfProvider(Protocol):
    """What there is to know about providers of one kind."""

    @property
    def kind(self) -> ProviderKind:
        """Which one it is."""
        ...

    @property
    def default_url(self) -> str:
        """Of the public service; empty where there is none."""
        ...

    @property
    def default_scopes(self) -> tuple[str, ...]:
        """What is asked for when the settings do not say."""
        ...

    def describe(self, url: str) -> ProviderMetadata | None:
        """The provider at a base URL; None when it describes itself."""
        ...

    def parameters(self, scopes: Sequence[str]) -> dict[str, str]:
        """What the authorization request needs beyond what every one has."""
        ...

    def revocations(
        self, metadata: ProviderMetadata, settings: ProviderSettings, access: Secret | None, refresh: Secret | None
    ) -> list[Revocation]:
        """Requests that take a grant back, in order; none where the provider has no way."""
        ...


class _GitHub:
    """github.com and GitHub Enterprise Server; OAuth Apps, and GitHub Apps for users."""

    kind = ProviderKind.GITHUB
    default_url = "https://github.com"
    default_scopes = ("repo", "read:user")

    def describe(self, url: str) -> ProviderMetadata:
        return _described(
            issuer=f"{url}/login/oauth",
            authorization=f"{url}/login/oauth/authorize",
            token=f"{url}/login/oauth/access_token",
        )

    def parameters(self, scopes: Sequence[str]) -> dict[str, str]:
        del scopes
        return {}

    def revocations(
        self, metadata: ProviderMetadata, settings: ProviderSettings, access: Secret | None, refresh: Secret | None
    ) -> list[Revocation]:
        del metadata, refresh
        if settings.client_secret is None or access is None:
            return []
        url = (settings.url or self.default_url).removesuffix("/")
        api = settings.api_url or ("https://api.github.com" if url == self.default_url else f"{url}/api/v3")
        pair = f"{settings.client_id}:{settings.client_secret.reveal()}"
        # Of the grant, not of the token: the refresh token would outlive that.
        return [
            Revocation(
                "DELETE",
                f"{api.removesuffix('/')}/applications/{quote(settings.client_id, safe='')}/grant",
                content=msgspec.json.encode({"access_token": access.reveal()}),
                headers={
                    "Accept": "application/vnd.github+json",
                    "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
                    "Content-Type": "application/json",
                },
                done=frozenset({204}),
            )
        ]


class _GitLab:
    """gitlab.com and GitLab elsewhere."""

    kind = ProviderKind.GITLAB
    default_url = "https://gitlab.com"
    default_scopes = ("read_user", "read_repository", "write_repository")

    def describe(self, url: str) -> ProviderMetadata:
        return _described(
            issuer=url,
            authorization=f"{url}/oauth/authorize",
            token=f"{url}/oauth/token",
            revocation=f"{url}/oauth/revoke",
        )

    def parameters(self, scopes: Sequence[str]) -> dict[str, str]:
        del scopes
        return {}

    def revocations(
        self, metadata: ProviderMetadata, settings: ProviderSettings, access: Secret | None, refresh: Secret | None
    ) -> list[Revocation]:
        return _rfc_7009(metadata, settings, access, refresh)


class _Bitbucket:
    """Bitbucket Cloud."""

    kind = ProviderKind.BITBUCKET
    default_url = "https://bitbucket.org"
    default_scopes = ("account", "repository", "repository:write")

    def describe(self, url: str) -> ProviderMetadata:
        return _described(
            issuer=url,
            authorization=f"{url}/site/oauth2/authorize",
            token=f"{url}/site/oauth2/access_token",
            proof="client_secret_basic",
        )

    def parameters(self, scopes: Sequence[str]) -> dict[str, str]:
        del scopes
        return {}

    def revocations(
        self, metadata: ProviderMetadata, settings: ProviderSettings, access: Secret | None, refresh: Secret | None
    ) -> list[Revocation]:
        del metadata, settings, access, refresh
        return []


class _OpenId:
    """Whoever speaks OpenID Connect."""

    kind = ProviderKind.OIDC
    default_url = ""
    default_scopes = ("openid", "offline_access")

    def describe(self, url: str) -> None:
        del url

    def parameters(self, scopes: Sequence[str]) -> dict[str, str]:
        # OpenID Connect Core section 11: without it the provider is to ignore the scope.
        return {"prompt": "consent"} if "offline_access" in scopes else {}

    def revocations(
        self, metadata: ProviderMetadata, settings: ProviderSettings, access: Secret | None, refresh: Secret | None
    ) -> list[Revocation]:
        return _rfc_7009(metadata, settings, access, refresh)


GITHUB: Final = _GitHub()
GITLAB: Final = _GitLab()
BITBUCKET: Final = _Bitbucket()
OPENID: Final = _OpenId()

_ALL: tuple[KindOfProvider, ...] = (GITHUB, GITLAB, BITBUCKET, OPENID)
_KINDS: Final[Mapping[ProviderKind, KindOfProvider]] = {each.kind: each for each in _ALL}


def kind_of(kind: ProviderKind) -> KindOfProvider:
    """What there is to know about a kind."""
    return _KINDS[kind]


def _described(
    *, issuer: str, authorization: str, token: str, revocation: str | None = None, proof: str = "client_secret_post"
) -> ProviderMetadata:
    return ProviderMetadata(
        issuer=issuer,
        authorization_endpoint=authorization,
        token_endpoint=token,
        jwks_uri="",
        revocation_endpoint=revocation,
        token_endpoint_auth_methods_supported=(proof,),
    )


def _rfc_7009(
    metadata: ProviderMetadata, settings: ProviderSettings, access: Secret | None, refresh: Secret | None
) -> list[Revocation]:
    """The refresh token first: by section 2.1 the access tokens of its grant go with it."""
    if metadata.revocation_endpoint is None:
        return []
    client = Client(settings.client_id, settings.client_secret)
    found = []
    for token, hint in ((refresh, "refresh_token"), (access, "access_token")):
        if token is not None:
            grant = {"token": token.reveal(), "token_type_hint": hint}
            form, headers = token_request(metadata, client, grant)
            found.append(Revocation("POST", metadata.revocation_endpoint, form=form, headers=headers))
    return found
