"""Errors of the inspector.

HomeportError
└── InspectorError
    ├── RequestNotKeptError         404 no_such_request     this process has no such request of the route, or no more
    └── NotReplayableError          409 not_replayable      it was not kept whole, or is nothing that can be sent again
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = ["InspectorError", "NotReplayableError", "RequestNotKeptError"]


class InspectorError(HomeportError):
    """Base of the errors of the inspector."""


class RequestNotKeptError(InspectorError):
    """This process has no such request of the route, or no more; another one may have it."""

    code: ClassVar[str] = "no_such_request"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such request"


class NotReplayableError(InspectorError):
    """The request was not kept whole, or is nothing that can be sent again."""

    code: ClassVar[str] = "not_replayable"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "Not replayable"
