"""Errors of connections to what users name.

HomeportError
└── OutboundError                    502 outbound_failed          base
    ├── TargetRefusedError           422 target_refused           when saved: the URL can be no target, by its words
    ├── TargetForbiddenError         502 target_forbidden         when used: it leads where none may go
    ├── TargetNotResolvedError       502 target_not_resolved      its name has no address
    ├── TargetUnreachableError       502 target_unreachable       no connection, or one that broke
    ├── TargetUntrustedError         502 target_untrusted         its certificate does not hold
    ├── TargetTimeoutError           504 target_timeout           too slow, as a whole
    ├── AnswerTooLargeError          502 target_answer_too_large  the answer has more bytes than are wanted
    └── AnswerMalformedError         502 target_answer_malformed  cut, not HTTP, or compressed though asked not to be

No detail quotes a URL, a header or an address that a name resolved to: URLs can hold secrets, and what a name of the
inside resolves to is nobody's business. The host is named.
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "AnswerMalformedError",
    "AnswerTooLargeError",
    "OutboundError",
    "TargetForbiddenError",
    "TargetNotResolvedError",
    "TargetRefusedError",
    "TargetTimeoutError",
    "TargetUnreachableError",
    "TargetUntrustedError",
]


class OutboundError(HomeportError):
    """Base of the errors of connections to what users name."""

    code: ClassVar[str] = "outbound_failed"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The target failed"


class TargetRefusedError(OutboundError):
    """The URL can be no target, by its own words: its scheme, its form, or an address that is not let through."""

    code: ClassVar[str] = "target_refused"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The target is refused"


class TargetForbiddenError(OutboundError):
    """The target leads, now that its name is resolved, to an address that is not let through; nothing was sent."""

    code: ClassVar[str] = "target_forbidden"
    title: ClassVar[str] = "The target leads where none may go"


class TargetNotResolvedError(OutboundError):
    """The name of the target has no address, or the name server does not say."""

    code: ClassVar[str] = "target_not_resolved"
    title: ClassVar[str] = "The target's name has no address"


class TargetUnreachableError(OutboundError):
    """No connection to the target could be had, or it broke."""

    code: ClassVar[str] = "target_unreachable"
    title: ClassVar[str] = "The target cannot be reached"


class TargetUntrustedError(OutboundError):
    """The target's certificate does not hold, or it does not speak TLS."""

    code: ClassVar[str] = "target_untrusted"
    title: ClassVar[str] = "The target's certificate does not hold"


class TargetTimeoutError(OutboundError):
    """The target took too long, the whole exchange counted."""

    code: ClassVar[str] = "target_timeout"
    status: ClassVar[int] = 504
    title: ClassVar[str] = "The target is too slow"


class AnswerTooLargeError(OutboundError):
    """The target's answer has more bytes than are wanted; the rest was not read."""

    code: ClassVar[str] = "target_answer_too_large"
    title: ClassVar[str] = "The target's answer is too large"


class AnswerMalformedError(OutboundError):
    """The target's answer is cut, is not HTTP, or is compressed though it was asked not to be."""

    code: ClassVar[str] = "target_answer_malformed"
    title: ClassVar[str] = "The target's answer cannot be read"
