from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import HomeportError
from common.ids import is_name
from common.sessions.errors import SessionNotFoundError
from remote_proxy.errors import BadRequestError, UpgradeRequiredError
from remote_proxy.internal.heads import StreamRequest, is_stream_request, read_head, read_stream_request

SESSION = "ses_" + "0123456789abcdef" * 2
REQUIRED = {
    "Host": "relay",
    "Connection": "Upgrade",
    "Upgrade": "homeport-stream",
    "Homeport-Team": "home",
    "Homeport-Service": "web",
}


def head(
    changes: dict[str, str | None] | None = None,
    *,
    line: str = f"POST /internal/sessions/{SESSION}/streams HTTP/1.1",
    extra: str = "",
) -> bytes:
    headers = {name: value for name, value in {**REQUIRED, **(changes or {})}.items() if value is not None}
    return (line + "\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + extra + "\r\n").encode("latin-1")


def read(data: bytes) -> StreamRequest:
    assert is_stream_request(data)
    return read_stream_request(read_head(data))


def test_a_whole_request() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    request = read(head({"Homeport-Epoch": "17", "Homeport-Timeout": "2.5", "traceparent": traceparent}))
    assert (request.session_id, request.team, request.service) == (SESSION, "home", "web")
    assert (request.options.epoch, request.options.timeout) == (17, 2.5)
    assert request.options.traceparent == traceparent


def test_what_may_be_left_out_has_a_default() -> None:
    options = read(head()).options
    assert (options.epoch, options.timeout, options.traceparent) == (None, 10.0, None)


def test_names_of_headers_and_of_the_protocol_are_case_insensitive() -> None:
    changes = {
        "Upgrade": None,
        "UPGRADE": "Homeport-Stream",
        "Connection": "keep-alive, UPGRADE",
        "Content-Length": "0",
    }
    assert read(head(changes)).service == "web"


@pytest.mark.parametrize(
    "line",
    [
        f"GET /internal/sessions/{SESSION}/streams HTTP/1.1",
        f"POST /internal/sessions/{SESSION} HTTP/1.1",
        "POST /internal/sessions HTTP/1.1",
        f"POST /internal/sessions/{SESSION}/streams/ HTTP/1.1",
        f"PUT /internal/revocations/{SESSION}/streams HTTP/1.1",
        f"POST /internal/sessions/{SESSION}/streamsX HTTP/1.1",
        "",
    ],
)
def test_everything_else_is_for_the_control_api(line: str) -> None:
    assert not is_stream_request(head(line=line))


@pytest.mark.parametrize(
    "changes",
    [
        {"Homeport-Team": None},
        {"Homeport-Team": ""},
        {"Homeport-Team": "No Name"},
        {"Homeport-Service": None},
        {"Homeport-Service": "a" * 41},
        {"Homeport-Service": "wéb"},
        {"Homeport-Epoch": "-1"},
        {"Homeport-Epoch": "1e9"},
        {"Homeport-Epoch": ""},
        {"Homeport-Epoch": "9" * 19},
        {"Homeport-Timeout": "0"},
        {"Homeport-Timeout": "-1"},
        {"Homeport-Timeout": "nan"},
        {"Homeport-Timeout": "inf"},
        {"Homeport-Timeout": "301"},
        {"Homeport-Timeout": "soon"},
        {"Content-Length": "1"},
        {"Transfer-Encoding": "chunked"},
    ],
    ids=str,
)
def test_a_header_that_is_missing_or_wrong_is_refused(changes: dict[str, str | None]) -> None:
    with pytest.raises(BadRequestError):
        read(head(changes))


@pytest.mark.parametrize("name", ["Homeport-Team", "Homeport-Service", "Homeport-Epoch", "Authorization", "Upgrade"])
def test_a_header_that_is_there_twice_is_refused(name: str) -> None:
    with pytest.raises(BadRequestError):
        read(head({name: "1"}, extra=f"{name.lower()}: 2\r\n"))


@pytest.mark.parametrize(
    "changes",
    [{"Upgrade": None}, {"Connection": None}, {"Upgrade": "websocket"}, {"Connection": "close"}, {"Upgrade": "h2c"}],
    ids=str,
)
def test_a_request_without_the_upgrade_is_told_to_upgrade(changes: dict[str, str | None]) -> None:
    with pytest.raises(UpgradeRequiredError):
        read(head(changes))


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "HTCPCP/1.0", ""])
def test_another_version_is_refused(version: str) -> None:
    with pytest.raises(HomeportError) as caught:
        read(head(line=f"POST /internal/sessions/{SESSION}/streams {version}"))
    assert caught.value.status in (400, 426)


@pytest.mark.parametrize("session", ["", "x", "ses_", "../secrets", SESSION.upper(), SESSION + "0", "%2e"])
def test_an_id_that_is_none_is_simply_not_found(session: str) -> None:
    with pytest.raises(SessionNotFoundError):
        read(head(line=f"POST /internal/sessions/{session}/streams HTTP/1.1"))


@pytest.mark.parametrize("value", ["", "x" * 129, "00-é"])
def test_a_trace_context_that_cannot_be_read_is_ignored(value: str) -> None:
    assert not read(head({"traceparent": value})).options.traceparent


@pytest.mark.parametrize(
    "spoilt",
    [
        head().replace(b"\r\nHost", b"\r\n Host"),
        head().replace(b"Host:", b"Host :"),
        head().replace(b"Host:", b"Ho\x00st:"),
        head().replace(b"relay", b"rel\x00ay"),
        head().replace(b"Host: relay", b"no colon"),
        head().replace(b" HTTP/1.1", b" HTTP/1.1 "),
    ],
)
def test_a_malformed_head_is_refused(spoilt: bytes) -> None:
    with pytest.raises(BadRequestError):
        read_head(spoilt)


@given(data=st.binary(max_size=300), at=st.integers(0, 200), cut=st.integers(0, 40))
def test_no_head_raises_anything_else(data: bytes, at: int, cut: int) -> None:
    """A good head with a piece replaced: whatever it is then, it is read or refused with a code."""
    good = head()
    spoilt = good[:at] + data + good[at + cut : -4] + b"\r\n\r\n"
    if not is_stream_request(spoilt):
        return
    with contextlib.suppress(BadRequestError, UpgradeRequiredError, SessionNotFoundError):
        request = read(spoilt)
        assert is_name(request.team)
        assert is_name(request.service)
