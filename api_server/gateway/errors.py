"""Errors of the gateway as such; those of authentication and of the session store pass through it with their own code.

HomeportError
└── GatewayError
    ├── BadRequestError            400 bad_request              not HTTP/1.1, or framed so that two could read it apart
    ├── BadPathError               400 bad_path                 a path that two could understand differently
    ├── CrossSiteError             403 cross_site_request       a browser sends this on behalf of another site
    ├── CorsRefusedError           403 cors_refused             the route gives pages of the origin no leave
    ├── NoRouteError               404 no_route                 nothing is served there
    ├── NoSuchDeviceError          404 no_such_device           not a team of the identity, or no such device in it
    ├── RequestTimeoutError        408 request_timeout          the request head did not arrive in time
    ├── BodyTooLargeError          413 body_too_large           more bytes than max_body_bytes
    ├── TargetTooLongError         414 target_too_long          a request target over the limit
    ├── ExpectationError           417 expectation_failed       an Expect other than 100-continue
    ├── UpgradeRequiredError       426 upgrade_required         raw TCP, asked for without an upgrade
    ├── RateLimitedError           429 rate_limited             with Retry-After
    ├── HeadTooLargeError          431 head_too_large           a request head over the limit
    ├── BadResponseError           502 bad_response             the service answered with something that is not HTTP/1.1
    ├── StreamResetError           502 stream_reset             the stream ended before the service had answered
    ├── GatewayFullError           503 over_capacity            too many connections; with Retry-After
    ├── ResponseTimeoutError       504 service_timeout          no first byte of a response in time
    └── InternalError              500 internal_error           a fault of ours
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "BadPathError",
    "BadRequestError",
    "BadResponseError",
    "BodyTooLargeError",
    "CorsRefusedError",
    "CrossSiteError",
    "ExpectationError",
    "GatewayError",
    "GatewayFullError",
    "HeadTooLargeError",
    "InternalError",
    "NoRouteError",
    "NoSuchDeviceError",
    "RateLimitedError",
    "RequestTimeoutError",
    "ResponseTimeoutError",
    "StreamResetError",
    "TargetTooLongError",
    "UpgradeRequiredError",
]


class GatewayError(HomeportError):
    """Base of the gateway's errors."""


class BadRequestError(GatewayError):
    """Not HTTP/1.1, or framed in a way that two readers could understand differently."""

    code: ClassVar[str] = "bad_request"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Bad request"


class BadPathError(GatewayError):
    """A path that two readers could understand differently, so that one checks what the other does not serve."""

    code: ClassVar[str] = "bad_path"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Bad path"


class CrossSiteError(GatewayError):
    """A browser sends this on behalf of another site, with a credential that it adds by itself."""

    code: ClassVar[str] = "cross_site_request"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "Refused: the request comes from another site"


class CorsRefusedError(GatewayError):
    """A page of another origin asks leave for what the route's CORS policy does not allow to it."""

    code: ClassVar[str] = "cors_refused"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "No leave for pages of this origin"


class NoRouteError(GatewayError):
    """Nothing is served there."""

    code: ClassVar[str] = "no_route"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No route"


class NoSuchDeviceError(GatewayError):
    """Not a team of the identity, or no such device in it: never told apart."""

    code: ClassVar[str] = "no_such_device"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such device"


class RequestTimeoutError(GatewayError):
    """The request head, or more of the body, did not arrive in time."""

    code: ClassVar[str] = "request_timeout"
    status: ClassVar[int] = 408
    title: ClassVar[str] = "The request took too long"


class BodyTooLargeError(GatewayError):
    """The request's body is over the limit."""

    code: ClassVar[str] = "body_too_large"
    status: ClassVar[int] = 413
    title: ClassVar[str] = "The body is too large"


class TargetTooLongError(GatewayError):
    """The request target is over the limit."""

    code: ClassVar[str] = "target_too_long"
    status: ClassVar[int] = 414
    title: ClassVar[str] = "The request target is too long"


class ExpectationError(GatewayError):
    """An expectation other than 100-continue (RFC 9110 section 10.1.1)."""

    code: ClassVar[str] = "expectation_failed"
    status: ClassVar[int] = 417
    title: ClassVar[str] = "Expectation failed"


class UpgradeRequiredError(GatewayError):
    """A raw connection is opened by `Upgrade: homeport-tcp`, or by a WebSocket handshake, alone."""

    code: ClassVar[str] = "upgrade_required"
    status: ClassVar[int] = 426
    title: ClassVar[str] = "Upgrade required"


class RateLimitedError(GatewayError):
    """Too many of something; with `Retry-After`."""

    code: ClassVar[str] = "rate_limited"
    status: ClassVar[int] = 429
    title: ClassVar[str] = "Rate limited"


class HeadTooLargeError(GatewayError):
    """The request head is over the limit."""

    code: ClassVar[str] = "head_too_large"
    status: ClassVar[int] = 431
    title: ClassVar[str] = "The request head is too large"


class InternalError(GatewayError):
    """A fault of ours."""


class BadResponseError(GatewayError):
    """The service answered with something that is not HTTP/1.1, or framed it wrongly."""

    code: ClassVar[str] = "bad_response"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The service's response is malformed"


class StreamResetError(GatewayError):
    """The stream to the service ended before the service had answered."""

    code: ClassVar[str] = "stream_reset"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The stream was reset"


class GatewayFullError(GatewayError):
    """Too many connections at a time."""

    code: ClassVar[str] = "over_capacity"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Over capacity"


class ResponseTimeoutError(GatewayError):
    """No first byte of a response in time."""

    code: ClassVar[str] = "service_timeout"
    status: ClassVar[int] = 504
    title: ClassVar[str] = "The service did not answer in time"
