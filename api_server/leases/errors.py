"""Errors of leases.

HomeportError
└── LeaseLostError    503 lease_lost    somebody else holds it by now
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = ["LeaseLostError"]


class LeaseLostError(HomeportError):
    """The lease ran out, and another process has taken it: what was done under it is not kept."""

    code: ClassVar[str] = "lease_lost"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Another process has taken over"
