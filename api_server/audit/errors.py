"""Errors of the audit log.

HomeportError
└── AuditError
    └── AuditLogBrokenError    500 audit_log_broken    its end is missing: nothing is written, so nothing is done
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = ["AuditError", "AuditLogBrokenError"]


class AuditError(HomeportError):
    """Base of the errors of the audit log."""


class AuditLogBrokenError(AuditError):
    """The end of the log is missing. Without it no entry can be written, and without an entry nothing is done."""

    code: ClassVar[str] = "audit_log_broken"
    title: ClassVar[str] = "The audit log cannot be written"
