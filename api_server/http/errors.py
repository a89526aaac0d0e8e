"""Errors of the REST API as such, whatever the endpoint.

HomeportError
└── HttpError
    ├── MalformedRequestError        400 bad_request              not HTTP, or not as RFC 9112 wants it
    ├── MalformedJsonError           400 malformed_json           a body that is not JSON, or not whole
    ├── CrossSiteRequestError        403 cross_site_request       a browser sends this on behalf of another site
    ├── CsrfHeaderMissingError       403 csrf_header_missing      a cookie alone changes nothing
    ├── PathNotFoundError            404 no_such_path             no such path
    ├── MethodNotAllowedError        405 method_not_allowed       not with this method; with Allow
    ├── RequestTimeoutError          408 request_timeout          the body did not arrive in time
    ├── BodyTooLargeError            413 body_too_large           more bytes than max_request_bytes
    ├── UnsupportedMediaTypeError    415 unsupported_media_type   a body that does not say it is JSON
    ├── ValidationFailedError        422 validation_failed        a parameter or a field is wrong, missing or unknown
    └── InternalError                500 internal_error           a fault of ours; the log has the request id
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "BodyTooLargeError",
    "CrossSiteRequestError",
    "CsrfHeaderMissingError",
    "HttpError",
    "InternalError",
    "MalformedJsonError",
    "MalformedRequestError",
    "MethodNotAllowedError",
    "PathNotFoundError",
    "RequestTimeoutError",
    "UnsupportedMediaTypeError",
    "ValidationFailedError",
]


class HttpError(HomeportError):
    """Base of the errors of the REST API as such."""


class MalformedRequestError(HttpError):
    """Not HTTP, or not as RFC 9112 wants it."""

    code: ClassVar[str] = "bad_request"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The request is malformed"


class MalformedJsonError(HttpError):
    """A body that is not JSON, or not whole."""

    code: ClassVar[str] = "malformed_json"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The body is not JSON"


class CrossSiteRequestError(HttpError):
    """A browser sends this on behalf of another site."""

    code: ClassVar[str] = "cross_site_request"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "Refused: the request comes from another site"


class CsrfHeaderMissingError(HttpError):
    """A cookie alone changes nothing: a browser sends it with requests that other sites make, too."""

    code: ClassVar[str] = "csrf_header_missing"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The header X-Homeport-CSRF is missing"


class PathNotFoundError(HttpError):
    """No such path."""

    code: ClassVar[str] = "no_such_path"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such path"


class MethodNotAllowedError(HttpError):
    """Not with this method.

    Args:
        allowed: the methods that are, for `Allow` (RFC 9110 section 15.5.6).
    """

    code: ClassVar[str] = "method_not_allowed"
    status: ClassVar[int] = 405
    title: ClassVar[str] = "The method is not allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = tuple(sorted(allowed))
        super().__init__(f"this path answers {', '.join(self.allowed)}")


class RequestTimeoutError(HttpError):
    """The body did not arrive in time."""

    code: ClassVar[str] = "request_timeout"
    status: ClassVar[int] = 408
    title: ClassVar[str] = "The body did not arrive in time"


class BodyTooLargeError(HttpError):
    """More bytes than `max_request_bytes`."""

    code: ClassVar[str] = "body_too_large"
    status: ClassVar[int] = 413
    title: ClassVar[str] = "The body is too large"


class UnsupportedMediaTypeError(HttpError):
    """A body that does not say it is JSON."""

    code: ClassVar[str] = "unsupported_media_type"
    status: ClassVar[int] = 415
    title: ClassVar[str] = "The body must be application/json"


class ValidationFailedError(HttpError):
    """A parameter or a field of the body is wrong, missing or unknown."""

    code: ClassVar[str] = "validation_failed"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "A parameter or field is wrong"


class InternalError(HttpError):
    """A fault of ours. What it was is in the log, under the request's id, and not in the answer."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
