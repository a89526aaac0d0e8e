"""Errors of the event streams.

HomeportError
└── EventError
    └── TooManyFollowersError    503 too_many_followers    as many clients follow as may; with Retry-After
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = ["EventError", "TooManyFollowersError"]


class EventError(HomeportError):
    """Base of the errors of the event streams."""


class TooManyFollowersError(EventError):
    """As many clients follow the events as may."""

    code: ClassVar[str] = "too_many_followers"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Too many clients follow the events"
