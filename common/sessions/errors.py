"""Errors of the session store and its handles.

HomeportError
└── SessionStoreError
    ├── SessionNotFoundError    404 no_such_session    no such session, or one of another team: never told apart
    ├── InvalidCursorError      400 invalid_cursor     a list cursor that no page gave
    ├── NotSupportedError       501 not_supported      this store does not do that call
    ├── SessionReplacedError    409 session_replaced   the epoch no longer matches: a newer session has taken over
    ├── DeviceOfflineError      502 device_offline     the device has no live session
    │   └── DeviceUnknownError  404 no_such_device     and the team has none of that id or name
    ├── ServiceRefusedError     502 service_refused    the agent does not offer the service, or could not reach it
    ├── ServiceTimeoutError     504 service_timeout    the agent did not answer the open in time
    ├── OverCapacityError       503 over_capacity      a limit is reached; with Retry-After
    ├── DrainingError           503 draining           the relay is going away; with Retry-After
    └── RelayUnavailableError   502 relay_unavailable  the relay does not answer, or not as agreed
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "DeviceOfflineError",
    "DeviceUnknownError",
    "DrainingError",
    "InvalidCursorError",
    "NotSupportedError",
    "OverCapacityError",
    "RelayUnavailableError",
    "ServiceRefusedError",
    "ServiceTimeoutError",
    "SessionNotFoundError",
    "SessionReplacedError",
    "SessionStoreError",
]


class SessionStoreError(HomeportError):
    """Base of the errors of a session store."""


class SessionNotFoundError(SessionStoreError):
    """No such session, or one of another team."""

    code: ClassVar[str] = "no_such_session"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such session"


class InvalidCursorError(SessionStoreError):
    """A list cursor that no page gave."""

    code: ClassVar[str] = "invalid_cursor"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Invalid cursor"


class NotSupportedError(SessionStoreError):
    """This store does not do that call."""

    code: ClassVar[str] = "not_supported"
    status: ClassVar[int] = 501
    title: ClassVar[str] = "Not supported"


class SessionReplacedError(SessionStoreError):
    """A newer session of the device has taken over."""

    code: ClassVar[str] = "session_replaced"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The session was replaced"


class DeviceOfflineError(SessionStoreError):
    """The device has no live session."""

    code: ClassVar[str] = "device_offline"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The device is offline"


class DeviceUnknownError(DeviceOfflineError):
    """The team has no device of that id or name, and so no session of it either."""

    code: ClassVar[str] = "no_such_device"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such device"


class ServiceRefusedError(SessionStoreError):
    """The agent does not offer the service, or could not reach it."""

    code: ClassVar[str] = "service_refused"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The service refused"


class ServiceTimeoutError(SessionStoreError):
    """The agent did not answer the open in time."""

    code: ClassVar[str] = "service_timeout"
    status: ClassVar[int] = 504
    title: ClassVar[str] = "The service did not answer in time"


class OverCapacityError(SessionStoreError):
    """A limit is reached."""

    code: ClassVar[str] = "over_capacity"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Over capacity"


class DrainingError(SessionStoreError):
    """The relay is going away."""

    code: ClassVar[str] = "draining"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The relay is draining"


class RelayUnavailableError(SessionStoreError):
    """The relay does not answer, or not as agreed."""

    code: ClassVar[str] = "relay_unavailable"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The relay is unavailable"
