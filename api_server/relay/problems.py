"""From the relay's answers to errors: a problem object's `code` chooses the class, so that both sides of internal HTTP
raise the same thing for the same reason.
"""

from __future__ import annotations

from typing import Final

import msgpack
import msgspec

from common.sessions.errors import (
    DeviceOfflineError,
    DrainingError,
    InvalidCursorError,
    NotSupportedError,
    OverCapacityError,
    RelayUnavailableError,
    ServiceRefusedError,
    ServiceTimeoutError,
    SessionNotFoundError,
    SessionReplacedError,
    SessionStoreError,
)

__all__ = ["MSGPACK", "error_from_answer"]

MSGPACK: Final = "application/msgpack"

_BY_CODE: Final[dict[str, type[SessionStoreError]]] = {
    kind.code: kind
    for kind in (
        DeviceOfflineError,
        DrainingError,
        InvalidCursorError,
        NotSupportedError,
        OverCapacityError,
        RelayUnavailableError,
        ServiceRefusedError,
        ServiceTimeoutError,
        SessionNotFoundError,
        SessionReplacedError,
    )
}

_MAX_DETAIL: Final = 500
"""Characters of a detail that are passed on; the relay's own are a sentence."""


class _Problem(msgspec.Struct, frozen=True):
    """The members of a problem object that matter here (RFC 9457 section 3.1)."""

    code: str = ""
    detail: str = ""


def error_from_answer(status: int, content_type: str, body: bytes, retry_after: str = "") -> SessionStoreError:
    """The error that an answer of the relay stands for.

    Args:
        status: of the answer, 300 or more.
        content_type: of the body.
        body: complete.
        retry_after: the value of `Retry-After`, empty without one; only seconds are understood.

    Returns:
        The error with the body's code; `RelayUnavailableError` for an answer that is not as agreed. That includes 401:
        a gateway with a wrong internal key is broken, its caller is not to blame.
    """
    problem = _read_problem(content_type, body)
    kind = _BY_CODE.get(problem.code)
    if kind is None:
        what = f"{status} {problem.code}".rstrip()
        return RelayUnavailableError(f"the relay answered {what}, which was not expected")
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
    return kind(problem.detail[:_MAX_DETAIL], retry_after=seconds)


def _read_problem(content_type: str, body: bytes) -> _Problem:
    try:
        if content_type.partition(";")[0].strip().lower() == MSGPACK:
            return msgspec.convert(msgpack.unpackb(body), _Problem)
        return msgspec.json.decode(body, type=_Problem)
    except (ValueError, msgpack.UnpackException, msgspec.MsgspecError):
        return _Problem()
