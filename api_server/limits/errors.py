"""Errors of the limits.

HomeportError
└── LimitError
    ├── SubjectNotFoundError      404 no_such_subject        the team has no token or route of that id
    ├── TooManySubjectsError      409 too_many_subjects      too many of a team's have their own
    ├── QuotaExceededError        429 rate_limited           more requests than a quota allows; with Retry-After
    ├── TooManyStreamsError       429 stream_limit           as many streams are under way as may; with Retry-After
    ├── TooManyOpensError         429 too_many_opens         streams are opened faster than they may; with Retry-After
    └── LimitsUnavailableError    503 limits_unavailable     the shared counter is away, and the limit fails closed
"""

from __future__ import annotations

from typing import Any, ClassVar

from api_server.limits.records import SubjectKind
from common.errors import HomeportError

__all__ = [
    "LimitError",
    "LimitsUnavailableError",
    "QuotaExceededError",
    "SubjectNotFoundError",
    "TooManyOpensError",
    "TooManyStreamsError",
    "TooManySubjectsError",
]


class LimitError(HomeportError):
    """Base of the errors of the limits."""


class SubjectNotFoundError(LimitError):
    """The team has no token or route of that id."""

    code: ClassVar[str] = "no_such_subject"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such token or route"


class TooManySubjectsError(LimitError):
    """Too many tokens and routes of a team have limits of their own."""

    code: ClassVar[str] = "too_many_subjects"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "Too many limits"


class QuotaExceededError(LimitError):
    """More requests in a time than a quota allows; with `Retry-After`, `RateLimit` and `RateLimit-Policy`.

    Args:
        kind: whose quota it is.
        quota: requests that it allows.
        window: seconds.
        retry_after: seconds until one more request is allowed.
    """

    code: ClassVar[str] = "rate_limited"
    status: ClassVar[int] = 429
    title: ClassVar[str] = "Rate limited"

    def __init__(self, kind: SubjectKind, quota: int, window: int, *, retry_after: float) -> None:
        self.kind = kind
        self.quota = quota
        self.window = window
        super().__init__(
            f"the {kind} may make {quota} requests in {window} s, and has made them", retry_after=retry_after
        )

    def problem(self) -> dict[str, Any]:
        """With the member that the draft on RateLimit fields defines (draft-ietf-httpapi-ratelimit-headers-10)."""
        return super().problem() | {"violated-policies": [str(self.kind)]}


class TooManyStreamsError(LimitError):
    """As many streams are under way as may be at a time; with `Retry-After`."""

    code: ClassVar[str] = "stream_limit"
    status: ClassVar[int] = 429
    title: ClassVar[str] = "Too many streams at a time"


class TooManyOpensError(LimitError):
    """Streams are opened faster than they may be; with `Retry-After`."""

    code: ClassVar[str] = "too_many_opens"
    status: ClassVar[int] = 429
    title: ClassVar[str] = "Streams are opened too fast"


class LimitsUnavailableError(LimitError):
    """The counter that all processes share is away, and a limit says that nothing passes without it."""

    code: ClassVar[str] = "limits_unavailable"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The limits cannot be checked"
