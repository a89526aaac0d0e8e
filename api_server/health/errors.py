"""Errors of the health checks.

HomeportError
└── HealthError
    └── NotReadyError    503 not_ready    draining, or the relay is not reachable
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = ["HealthError", "NotReadyError"]


class HealthError(HomeportError):
    """Base of the errors of the health checks."""


class NotReadyError(HealthError):
    """Send requests elsewhere, or later."""

    code: ClassVar[str] = "not_ready"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Not ready"
