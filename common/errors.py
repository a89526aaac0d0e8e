"""The root of Homeport's error tree, and the one shape in which an error leaves a process.

    HomeportError
    ├── SettingsError            common.settings: a setting is missing, wrong or unknown
    ├── SessionStoreError        common.sessions.errors: sessions, devices and their streams
    ├── TunnelError              common.tunnel.errors: the tunnel of a device
    ├── YamuxError               common.yamux.errors: the multiplexer
    ├── WireError                common.wire.errors: a message that cannot be read or written
    ├── CredentialError          common.crypto.errors: a token or key that does not hold
    └── SealError                common.crypto.errors: what is sealed cannot be had

Each package draws its own part of the tree in its `errors.py`. Every error carries a stable `code` (scripts match on
it), the HTTP `status` it maps to, and a `detail` that is safe to show: it never holds a secret.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["HomeportError"]


class HomeportError(Exception):
    """Base of every error that Homeport raises on purpose.

    Args:
        detail: what was wrong, where, and what to do about it; shown to the caller, so without secrets.
        retry_after: seconds after which the same call may succeed; sent as `Retry-After` (RFC 9110 section 10.2.3).
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after = retry_after

    def problem(self) -> dict[str, Any]:
        """The error as a problem+json object (RFC 9457 section 3.1), with the stable `code` beside its members."""
        return {
            "type": f"urn:homeport:error:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
