"""Errors of backends as such; those of a connection come from `outbound.errors`.

HomeportError
└── BackendError
    └── BackendFullError      503 backend_busy      as many connections to it as are allowed; with Retry-After
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = ["BackendError", "BackendFullError"]


class BackendError(HomeportError):
    """Base of the errors of backends."""


class BackendFullError(BackendError):
    """There are as many connections to the backend, or to all backends, as are allowed at a time."""

    code: ClassVar[str] = "backend_busy"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The backend has all the connections that it may have"
