"""Errors of routes and of the secrets that they show to backends.

HomeportError
└── RoutingError
    ├── RouteNotFoundError           404 no_such_route               the team has no route of that id or name
    ├── RouteNameTakenError          409 route_name_taken            the team has a route of that name
    ├── RoutePathTakenError          409 route_path_taken            the path is another route's, or of another team
    ├── RouteChangedError            409 route_changed               it has another version than the change was made for
    ├── SecretNotFoundError          404 no_such_upstream_secret     the team has no secret of that id or name
    ├── SecretNameTakenError         409 upstream_secret_name_taken  the team has a secret of that name
    ├── SecretInUseError             409 upstream_secret_in_use      routes show it
    ├── SecretElsewhereError         422 upstream_secret_elsewhere   the secret is for another destination
    ├── CredentialUnavailableError   502 credential_unavailable      what a backend is to be shown cannot be had
    └── NoHealthyDeviceError         503 no_healthy_device           no device of the route is there and well
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "CredentialUnavailableError",
    "NoHealthyDeviceError",
    "RouteChangedError",
    "RouteNameTakenError",
    "RouteNotFoundError",
    "RoutePathTakenError",
    "RoutingError",
    "SecretElsewhereError",
    "SecretInUseError",
    "SecretNameTakenError",
    "SecretNotFoundError",
]


class RoutingError(HomeportError):
    """Base of the errors of routes."""


class RouteNotFoundError(RoutingError):
    """The team has no route of that id or name."""

    code: ClassVar[str] = "no_such_route"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such route"


class RouteNameTakenError(RoutingError):
    """The team has a route of that name."""

    code: ClassVar[str] = "route_name_taken"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The route's name is taken"


class RoutePathTakenError(RoutingError):
    """The path is that of another route, or lies below or above one of another team: one gateway serves all teams."""

    code: ClassVar[str] = "route_path_taken"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The path is taken"


class RouteChangedError(RoutingError):
    """Somebody has changed the route since the version that the change was made for. Read it again."""

    code: ClassVar[str] = "route_changed"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The route has changed"


class SecretNotFoundError(RoutingError):
    """The team has no upstream secret of that id or name."""

    code: ClassVar[str] = "no_such_upstream_secret"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such upstream secret"


class SecretNameTakenError(RoutingError):
    """The team has an upstream secret of that name."""

    code: ClassVar[str] = "upstream_secret_name_taken"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The secret's name is taken"


class SecretInUseError(RoutingError):
    """Routes show the secret to their backends; the detail names up to five of them."""

    code: ClassVar[str] = "upstream_secret_in_use"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The secret is in use"


class SecretElsewhereError(RoutingError):
    """The secret is for another destination than the route leads to."""

    code: ClassVar[str] = "upstream_secret_elsewhere"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The secret is for another destination"


class CredentialUnavailableError(RoutingError):
    """What the service or backend is to be shown cannot be had; the request was not sent without it."""

    code: ClassVar[str] = "credential_unavailable"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The upstream credential cannot be had"


class NoHealthyDeviceError(RoutingError):
    """No device with the route's label is connected and well, or the team has none."""

    code: ClassVar[str] = "no_healthy_device"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "No device is there and well"
