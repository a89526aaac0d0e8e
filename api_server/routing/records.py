"""What the stores of routes give and the endpoints show. Times are seconds since the Unix epoch."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from api_server.gateway.cors import CorsPolicy
from common.ids import TeamId

__all__ = [
    "AuthKind",
    "DeviceTarget",
    "HealthCheck",
    "RouteTarget",
    "StoredRoute",
    "StoredSecret",
    "UpstreamAuth",
    "UrlTarget",
]

_Text = Annotated[str, Meta(min_length=1, max_length=100)]


class DeviceTarget(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag="device",
):
    """A service of one device, or of all that have a label."""

    service: _Text
    device: _Text | None = None
    """Id or name of the device."""
    label: _Text | None = None
    """In its place: the route leads to one of the devices that have the label, in turn."""


class UrlTarget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="url"):
    """A backend that the gateway reaches by itself."""

    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    """`https://host[:port][/path]`; the rest of the request's path follows on its path."""


RouteTarget = DeviceTarget | UrlTarget


class AuthKind(StrEnum):
    """How the service or backend is shown who asks."""

    NONE = "none"
    """Not at all. What the caller shows beside Homeport's token goes on."""
    BEARER = "bearer"
    """`Authorization: Bearer`, with the secret."""
    API_KEY = "api-key"
    """A header of its own, with the secret."""
    BASIC = "basic"
    """`Authorization: Basic`, with a user name and the secret as the password."""


class UpstreamAuth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a service or backend is shown."""

    kind: AuthKind
    secret: _Text | None = None
    """Name of an upstream secret of the team, for this destination."""
    realm: _Text | None = None
    """Of `bearer`, in place of a secret: the realm of the team whose token is shown."""
    key: _Text | None = None
    """And the key of the secret in it."""
    header: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """Of `api-key`: the header; `X-API-Key` when left out."""
    username: Annotated[str, Meta(max_length=200)] | None = None
    """Of `basic`; when left out, the secret is `user:password`."""


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it is found out which devices of a label are well."""

    path: Annotated[str, Meta(min_length=1, max_length=512)] = "/"
    """What is asked of the service by GET; a status below 400 is well."""
    interval: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    """Seconds between two questions to a device."""
    threshold: Annotated[int, Meta(ge=1, le=20)] = 2
    """Answers in a row that change what is thought of a device."""


class StoredRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route."""

    id: str
    """It never changes; it can stand wherever the name can."""
    name: str
    """What scopes of tokens say: `gateway:call:NAME`."""
    team: TeamId
    path: str
    """The prefix, in whole segments: `/cameras` leads to `/cameras` and `/cameras/...`, and not to `/cameras-2`."""
    target: RouteTarget
    tags: list[str]
    auth: UpstreamAuth
    strip_prefix: bool
    """Whether the service sees the path without the prefix."""
    health: HealthCheck | None
    cors: CorsPolicy | None
    inspect: bool
    version: int
    """Grows with each change."""
    created_at: float
    created_by: str
    """`user:` or `token:` and the id."""
    updated_at: float


class StoredSecret(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream secret, without its value."""

    id: str
    name: str
    team: TeamId
    destination: str
    """Where alone it is shown: `https://host[:port]`, `device:NAME/SERVICE` or `label:NAME/SERVICE`."""
    version: int
    """Grows with each new value."""
    created_at: float
    created_by: str
    updated_at: float

    @property
    def creator(self) -> tuple[str, str]:
        """Kind and id of who created it."""
        kind, _, identifier = self.created_by.partition(":")
        return kind, identifier
