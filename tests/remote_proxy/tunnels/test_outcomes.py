from __future__ import annotations

import pytest

from common.sessions.errors import (
    DrainingError,
    OverCapacityError,
    ServiceRefusedError,
    ServiceTimeoutError,
    SessionNotFoundError,
    SessionStoreError,
)
from common.tunnel.errors import (
    HandshakeFailedError,
    OpenLimitError,
    OpenRefusedError,
    OpenTimeoutError,
    StreamLostError,
    TunnelDrainingError,
    TunnelError,
    TunnelLostError,
)
from common.tunnel.interfaces import CloseReason
from common.tunnel.stream import ResetCode
from common.wire.messages import OpenRefusal
from remote_proxy.tunnels.outcomes import as_session_error, close_reason, printable

OPENS: list[tuple[TunnelError, type[SessionStoreError]]] = [
    (OpenTimeoutError("x"), ServiceTimeoutError),
    (OpenLimitError("x"), OverCapacityError),
    (TunnelDrainingError("x"), DrainingError),
    (TunnelLostError("x"), SessionNotFoundError),
    (StreamLostError(ResetCode.CANCELLED), ServiceRefusedError),
    *(
        (
            OpenRefusedError("x", reason=reason),
            {
                OpenRefusal.TIMEOUT: ServiceTimeoutError,
                OpenRefusal.OVER_CAPACITY: OverCapacityError,
                OpenRefusal.DRAINING: DrainingError,
            }.get(reason, ServiceRefusedError),
        )
        for reason in OpenRefusal
    ),
    (OpenRefusedError("x", reason="a code of a later agent"), ServiceRefusedError),
]


@pytest.mark.parametrize(("error", "expected"), OPENS, ids=lambda value: getattr(value, "reason", None))
def test_an_open_that_failed(error: TunnelError, expected: type[SessionStoreError]) -> None:
    found = as_session_error(error)
    assert type(found) is expected
    assert error.detail in found.detail
    assert (found.retry_after is not None) is (expected in (OverCapacityError, DrainingError))


def test_a_limit_says_for_how_long() -> None:
    assert as_session_error(OpenLimitError("x", retry_after=7.0)).retry_after == 7.0


def test_the_words_of_a_device_cannot_move_a_terminal_s_cursor() -> None:
    error = as_session_error(OpenRefusedError("\x1b[2J\r\nall is well\u202e", reason="failed"))
    assert error.detail == "?[2J??all is well?"
    assert printable("Käse 🧀") == "Käse 🧀"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TunnelLostError("x"), "network"),
        (TunnelLostError("x", reason="silence"), "dead"),
        (TunnelLostError("x", reason=CloseReason.REVOKED), "revoked"),
        (TunnelLostError("x", reason=CloseReason.PROTOCOL_ERROR), "protocol_error"),
        (TunnelLostError("x", reason="device_deleted"), "other"),
        (TunnelLostError("x", reason="made up", by_peer=True), "closed_by_device"),
        (TunnelLostError("x", reason=CloseReason.REVOKED, by_peer=True), "closed_by_device"),
        (HandshakeFailedError("x"), "network"),
    ],
)
def test_why_a_tunnel_ended_is_one_of_few_words(error: TunnelError, reason: str) -> None:
    assert close_reason(error) == reason
