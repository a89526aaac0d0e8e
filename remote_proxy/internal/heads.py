"""Request heads on the internal port: find the end of one, tell a stream request from the rest, and read it.

    POST /internal/sessions/{id}/streams HTTP/1.1
    Connection: Upgrade
    Upgrade: homeport-stream
    Homeport-Team: home
    Homeport-Service: web
    [Homeport-Epoch: 1794700000000]  [Homeport-Timeout: 10.0]  [traceparent: 00-...]

Sans-I/O. httptools (llhttp) does the reading, strictly: a head that it does not take is a `BadRequestError`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import httptools

from common.ids import ServiceName, SessionId, TeamId, is_name, is_session_id
from common.sessions.errors import SessionNotFoundError
from common.sessions.interfaces import OpenOptions
from remote_proxy.errors import BadRequestError, UpgradeRequiredError

__all__ = [
    "END_OF_HEAD",
    "STREAM_PROTOCOL",
    "Head",
    "StreamRequest",
    "is_stream_request",
    "read_head",
    "read_stream_request",
]

END_OF_HEAD = b"\r\n\r\n"
STREAM_PROTOCOL = "homeport-stream"

_PREFIX = b"/internal/sessions/"
_SUFFIX = b"/streams"
_METHOD = b"POST "

_MAX_TIMEOUT = 300.0
"""Seconds; a caller that waits longer for an agent's answer has forgotten about it."""

_MAX_TRACEPARENT = 128
"""Bytes; version 00 has 55, later ones may be longer."""

_SINGLE = frozenset(
    (
        b"authorization",
        b"content-length",
        b"homeport-epoch",
        b"homeport-service",
        b"homeport-team",
        b"homeport-timeout",
        b"traceparent",
        b"upgrade",
    )
)
"""Headers that are read here. Two of one kind would mean that someone else may have read the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A request head that was read, and not yet understood."""

    target: bytes
    headers: dict[bytes, bytes]
    """Names in lower case."""
    upgrades: bool
    """Whether it asks for an upgrade, to whatever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """A stream that somebody asks for."""

    session_id: SessionId
    team: TeamId
    service: ServiceName
    options: OpenOptions


def is_stream_request(head: bytes) -> bool:
    """Whether the head asks for a stream, by its request line alone; everything else is for the control API."""
    if not head.startswith(_METHOD + _PREFIX):
        return False
    target = head[len(_METHOD) : head.find(b" ", len(_METHOD))]
    return target.partition(b"?")[0].endswith(_SUFFIX)


class _Reader:
    """httptools' callbacks."""

    __slots__ = ("headers", "repeated", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.repeated = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _SINGLE and name in self.headers:
            self.repeated = name
        self.headers[name] = value


def read_head(head: bytes) -> Head:
    """Target and headers of a head that `is_stream_request`.

    Raises:
        BadRequestError: it is no HTTP/1.1 head, or says something twice.
    """
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    upgrades = False
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        upgrades = True
    except httptools.HttpParserError as exc:
        raise BadRequestError("the request head is not HTTP/1.1") from exc
    if reader.repeated:
        raise BadRequestError(f"the header {reader.repeated.decode()} is there twice")
    if parser.get_http_version() != "1.1":
        raise BadRequestError("a stream is opened by HTTP/1.1")
    return Head(target=reader.target, headers=reader.headers, upgrades=upgrades)


def read_stream_request(head: Head) -> StreamRequest:
    """What a head asks for, checked value by value.

    Raises:
        BadRequestError: a header is missing or wrong, or there is a body; the detail says which.
        UpgradeRequiredError: it does not ask for the upgrade.
        SessionNotFoundError: the id has not the shape of one.
    """
    headers = head.headers
    if b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
        raise BadRequestError("a stream request has no body; what follows its head is the stream")
    if not head.upgrades or headers.get(b"upgrade", b"").lower() != STREAM_PROTOCOL.encode():
        raise UpgradeRequiredError(f"a stream is opened by `Connection: Upgrade` and `Upgrade: {STREAM_PROTOCOL}`")
    session_id = head.target[len(_PREFIX) : -len(_SUFFIX)].decode("latin-1")
    if not is_session_id(session_id):
        raise SessionNotFoundError
    epoch = headers.get(b"homeport-epoch")
    return StreamRequest(
        session_id=SessionId(session_id),
        team=TeamId(_name(headers, b"homeport-team")),
        service=ServiceName(_name(headers, b"homeport-service")),
        options=OpenOptions(
            timeout=_timeout(headers.get(b"homeport-timeout")),
            traceparent=_traceparent(headers.get(b"traceparent")),
            epoch=_epoch(epoch) if epoch is not None else None,
        ),
    )


def _name(headers: dict[bytes, bytes], header: bytes) -> str:
    name = headers.get(header, b"").decode("latin-1")
    if not is_name(name):
        raise BadRequestError(f"the header {header.decode()} is missing, or is not a name")
    return name


def _epoch(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise BadRequestError("the header homeport-epoch is not an epoch")
    return int(value)


def _traceparent(value: bytes | None) -> str | None:
    # W3C Trace Context section 3.2.2.3: one that cannot be read is ignored, never an error.
    if value is None or len(value) > _MAX_TRACEPARENT or not value.isascii():
        return None
    return value.decode("ascii")


def _timeout(value: bytes | None) -> float:
    if value is None:
        return OpenOptions().timeout
    try:
        timeout = float(value)
    except ValueError:
        timeout = math.nan
    if not 0 < timeout <= _MAX_TIMEOUT:
        raise BadRequestError(f"the header homeport-timeout is not a number of seconds up to {_MAX_TIMEOUT:.0f}")
    return timeout
