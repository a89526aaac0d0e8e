"""Errors of the relay that are not the session store's.

HomeportError
└── RelayError
    ├── BadRequestError        400 bad_request        a request that cannot be understood
    ├── UnauthenticatedError   401 unauthenticated    without the internal key, or with a wrong one
    ├── NoSuchPathError        404 no_such_path       nothing is served there
    ├── MethodNotAllowedError  405 method_not_allowed
    ├── HeadTimeoutError       408 head_timeout       the request head did not arrive in time
    ├── UpgradeRequiredError   426 upgrade_required   a stream is opened by `Upgrade: homeport-stream` alone
    ├── HeadTooLargeError      431 head_too_large     the request head is over the limit
    └── EventsLostError        410 events_lost        the events asked for have left the ring
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "BadRequestError",
    "EventsLostError",
    "HeadTimeoutError",
    "HeadTooLargeError",
    "MethodNotAllowedError",
    "NoSuchPathError",
    "RelayError",
    "UnauthenticatedError",
    "UpgradeRequiredError",
]


class RelayError(HomeportError):
    """Base of the relay's errors."""


class BadRequestError(RelayError):
    """A request that cannot be understood."""

    code: ClassVar[str] = "bad_request"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Bad request"


class UnauthenticatedError(RelayError):
    """Without the internal key, or with a wrong one."""

    code: ClassVar[str] = "unauthenticated"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "Not authenticated"


class NoSuchPathError(RelayError):
    """Nothing is served there."""

    code: ClassVar[str] = "no_such_path"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such path"


class MethodNotAllowedError(RelayError):
    """The path does not take that method."""

    code: ClassVar[str] = "method_not_allowed"
    status: ClassVar[int] = 405
    title: ClassVar[str] = "Method not allowed"


class HeadTimeoutError(RelayError):
    """The request head did not arrive in time."""

    code: ClassVar[str] = "head_timeout"
    status: ClassVar[int] = 408
    title: ClassVar[str] = "The request head took too long"


class UpgradeRequiredError(RelayError):
    """A stream is opened by `Upgrade: homeport-stream` alone, as the first request of a connection."""

    code: ClassVar[str] = "upgrade_required"
    status: ClassVar[int] = 426
    title: ClassVar[str] = "Upgrade required"


class HeadTooLargeError(RelayError):
    """The request head is over the limit."""

    code: ClassVar[str] = "head_too_large"
    status: ClassVar[int] = 431
    title: ClassVar[str] = "The request head is too large"


class EventsLostError(RelayError):
    """The events asked for have left the ring, or are of another relay process: read the list anew."""

    code: ClassVar[str] = "events_lost"
    status: ClassVar[int] = 410
    title: ClassVar[str] = "Events were lost"
