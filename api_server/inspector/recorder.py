"""The last requests to each inspected route, in memory. Time is passed in by the clock; nothing here waits.

Bounded five ways: requests of a route, bytes of a body, bytes of all, requests under way that are watched, and age. The
oldest goes first.

What is kept of a request's head is what may be shown and sent again: fields that carry who asked, or sound of a secret,
are gone for good. A body is kept as it came, because what is masked cannot be sent again; what is secret in it is
masked when it is shown.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from typing import Final

from api_server.auth.interfaces import Identity
from api_server.gateway.fields import MalformedError
from api_server.gateway.framing import ChunkedBody
from api_server.gateway.requests import RequestHead
from api_server.gateway.responses import has_no_body
from api_server.gateway.targets import Target
from api_server.inspector.errors import NotReplayableError, RequestNotKeptError
from api_server.inspector.records import Body, InspectedMessage, InspectedRequest, InspectedResponse, InspectedSummary
from api_server.inspector.redaction import is_secret, redacted_fields, redacted_target, redacted_text
from common.clock import Clock
from common.ids import new_id
from common.tunnel.stream import Buffer

__all__ = ["RequestRecorder"]

_MAX_HEAD: Final = 64 * 1024
"""Bytes of a response head, as the gateway takes it."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})")
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)

_OVERHEAD: Final = 1024
"""Bytes that a record costs beside what it holds."""


class _Content:
    """A body going by: the beginning of it, without its framing."""

    __slots__ = ("_chunks", "_limit", "data", "size")

    def __init__(self, limit: int, *, chunked: bool) -> None:
        self._limit = limit
        self._chunks = ChunkedBody(decode=True) if chunked else None
        self.data = bytearray()
        self.size = 0

    @property
    def truncated(self) -> bool:
        return self.size > len(self.data)

    def feed(self, data: bytes) -> None:
        if self._chunks is None:
            self._keep(data)
            return
        out: list[Buffer] = []
        try:
            if not self._chunks.complete:
                self._chunks.feed(data, 0, out)
        except MalformedError:
            pass  # the exchange is refused for it
        for each in out:
            self._keep(each)

    def _keep(self, data: Buffer) -> None:
        self.size += len(data)
        room = self._limit - len(self.data)
        if room > 0:
            self.data += data[:room]


class _Recording:
    """One request: `Recording` to the gateway."""

    __slots__ = (
        "_answered",
        "_began",
        "_kept",
        "_method",
        "_recorder",
        "_waiting",
        "at",
        "caller",
        "code",
        "head",
        "id",
        "replay_of",
        "request",
        "response_body",
        "response_head",
        "route",
        "seconds",
        "status",
        "upgrade",
    )

    def __init__(
        self, recorder: RequestRecorder, route: str, head: RequestHead, identity: Identity, replay_of: str | None
    ) -> None:
        self._recorder = recorder
        self._began = recorder.clock.monotonic()
        self._method = head.method
        self._waiting = b""
        self._answered = False
        self._kept = False
        self.id = new_id("rqs")
        self.route = route
        self.at = recorder.clock.wall()
        self.caller = f"{identity.kind}:{identity.id}"
        self.replay_of = replay_of
        self.head = _without_secrets(head.received)
        self.upgrade = bool(head.fields.upgrade)
        self.request = _Content(recorder.max_body, chunked=head.fields.framing.chunked)
        self.response_head = b""
        self.response_body = _Content(0, chunked=False)
        self.status = 0
        self.code: str | None = None
        self.seconds = 0.0

    @property
    def size(self) -> int:
        """Bytes that it costs."""
        return (
            _OVERHEAD + len(self.head) + len(self.response_head) + len(self.request.data) + len(self.response_body.data)
        )

    @property
    def replayable(self) -> bool:
        """Whether it can be sent again."""
        return not self.upgrade and not self.request.truncated

    def request_body(self, data: bytes) -> None:
        self.request.feed(data)

    def response(self, data: bytes) -> None:
        if self._answered:
            if self.status != 101:
                self.response_body.feed(data)
            return
        self._waiting += data
        while not self._answered and (end := self._waiting.find(b"\r\n\r\n") + 4) >= 4:
            head, self._waiting = self._waiting[:end], self._waiting[end:]
            status = _STATUS.match(head)
            if status is None or (int(status[1]) < 200 and int(status[1]) != 101):
                continue
            self._answered = True
            self.status, self.response_head = int(status[1]), head
            chunked = _CHUNKED.search(head) is not None
            limit = 0 if has_no_body(self._method, self.status) else self._recorder.max_body
            self.response_body = _Content(limit, chunked=chunked)
            rest, self._waiting = self._waiting, b""
            if rest and limit:
                self.response_body.feed(rest)
        if len(self._waiting) > _MAX_HEAD:
            self._waiting = b""

    def end(self, *, status: int = 0, code: str | None = None) -> None:
        if self._kept:
            return
        self._kept = True
        self._waiting = b""
        self.status = status or self.status
        self.code = code
        self.seconds = self._recorder.clock.monotonic() - self._began
        self._recorder.keep(self)


class RequestRecorder:
    """Keeps requests: `Recorder` to the gateway.

    Args:
        clock: of both kinds.
        max_requests: of a route.
        max_body: bytes of a body that are kept.
        max_bytes: of everything that is kept.
        max_age: seconds that one is kept.
        max_under_way: requests that are watched at a time.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        max_requests: int = 100,
        max_body: int = 16 * 1024,
        max_bytes: int = 32 * 1024 * 1024,
        max_age: float = 3600.0,
        max_under_way: int = 256,
    ) -> None:
        self.clock = clock
        self.max_body = max_body
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._max_under_way = max_under_way
        self._by_route: dict[str, deque[_Recording]] = {}
        self._order: deque[_Recording] = deque()
        """All of them, the oldest first; some may have gone from their route already."""
        self._bytes = 0
        self._under_way = 0
        self.missed = 0
        """Requests that went by unwatched, because too many were under way."""

    def __repr__(self) -> str:
        kept = sum(map(len, self._by_route.values()))
        return f"<RequestRecorder {kept} requests of {len(self._by_route)} routes, {self._bytes} bytes>"

    @property
    def bytes_kept(self) -> int:
        """What is held."""
        return self._bytes

    def begin(
        self, target: Target, head: RequestHead, identity: Identity, *, replay_of: str | None = None
    ) -> _Recording | None:
        if target.route_id is None:
            return None
        if self._under_way >= self._max_under_way:
            self.missed += 1
            return None
        self._under_way += 1
        return _Recording(self, target.route_id, head, identity, replay_of)

    def keep(self, recording: _Recording) -> None:
        """A request is over."""
        self._under_way -= 1
        kept = self._by_route.setdefault(recording.route, deque())
        kept.append(recording)
        self._order.append(recording)
        self._bytes += recording.size
        if len(kept) > self._max_requests:
            self._bytes -= kept.popleft().size
        while self._bytes > self._max_bytes and self._order:
            self._drop(self._order.popleft())
        if len(self._order) > 2 * sum(map(len, self._by_route.values())):
            self._order = deque(sorted((each for of in self._by_route.values() for each in of), key=lambda r: r.at))

    def expire(self) -> None:
        """Drop what is too old; to be called now and then."""
        oldest = self.clock.wall() - self._max_age
        while self._order and self._order[0].at < oldest:
            self._drop(self._order.popleft())

    def forget(self, route: str) -> None:
        """Drop what is kept of a route."""
        for recording in self._by_route.pop(route, ()):
            self._bytes -= recording.size

    def those_of(self, route: str) -> list[InspectedSummary]:
        """Requests to a route, newest first."""
        self.expire()
        return [_summary(each) for each in reversed(self._by_route.get(route, ()))]

    def show(self, route: str, request: str) -> InspectedRequest:
        """A request to a route.

        Raises:
            RequestNotKeptError: there is none.
        """
        return _shown(self._find(route, request))

    def to_repeat(self, route: str, request: str) -> tuple[bytes, bytes]:
        """Head and body of a request, to send them again.

        Raises:
            NotReplayableError: it was not kept whole, or was an upgrade.
            RequestNotKeptError: there is none.
        """
        found = self._find(route, request)
        if found.upgrade:
            raise NotReplayableError("an upgrade is a conversation; it cannot be repeated")
        if not found.replayable:
            raise NotReplayableError(f"its body has {found.request.size} bytes, of which {self.max_body} are kept")
        return found.head, bytes(found.request.data)

    def _find(self, route: str, request: str) -> _Recording:
        self.expire()
        for each in self._by_route.get(route, ()):
            if each.id == request:
                return each
        raise RequestNotKeptError("this process has no such request of the route, or no more; another one may have it")

    def _drop(self, recording: _Recording) -> None:
        kept = self._by_route.get(recording.route)
        if kept and kept[0] is recording:
            kept.popleft()
            self._bytes -= recording.size
            if not kept:
                del self._by_route[recording.route]


def _without_secrets(head: bytes) -> bytes:
    """A request head without what says who asks, or sounds of a secret. It has been checked: a line is a field."""
    start, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if not is_secret(line.partition(b":")[0].decode("latin-1"))]
    return b"\r\n".join((start, *kept, b"", b""))


def _fields(head: bytes) -> list[tuple[str, str]]:
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")[1:]
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


def _body(content: _Content, fields: list[tuple[str, str]]) -> Body:
    media_type = next((value.lower() for name, value in fields if name.lower() == "content-type"), "")
    data = bytes(content.data)
    coded = any(name.lower() == "content-encoding" for name, _ in fields)
    try:
        text = None if coded or b"\0" in data else data.decode()
    except UnicodeDecodeError as exc:
        # What was cut may have been cut within a character.
        text = data[: exc.start].decode() if content.truncated and exc.start > len(data) - 4 else None
    return Body(
        size=content.size,
        truncated=content.truncated,
        text=None if text is None else redacted_text(text, media_type),
        base64=base64.b64encode(data).decode("ascii") if text is None else None,
    )


def _words(recording: _Recording) -> tuple[str, str]:
    method, target, _ = recording.head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    return method, redacted_target(target)


def _summary(recording: _Recording) -> InspectedSummary:
    method, target = _words(recording)
    return InspectedSummary(
        id=recording.id,
        at=recording.at,
        method=method,
        target=target,
        status=recording.status,
        error=recording.code,
        seconds=recording.seconds,
        caller=recording.caller,
        replay_of=recording.replay_of,
        replayable=recording.replayable,
    )


def _shown(recording: _Recording) -> InspectedRequest:
    method, target = _words(recording)
    asked, answered = _fields(recording.head), _fields(recording.response_head)
    response = None
    if recording.response_head:
        status = _STATUS.match(recording.response_head)
        response = InspectedResponse(
            status=int(status[1]) if status is not None else 0,
            headers=redacted_fields(answered),
            body=_body(recording.response_body, answered),
        )
    return InspectedRequest(
        id=recording.id,
        at=recording.at,
        method=method,
        target=target,
        status=recording.status,
        error=recording.code,
        seconds=recording.seconds,
        caller=recording.caller,
        replay_of=recording.replay_of,
        replayable=recording.replayable,
        request=InspectedMessage(headers=redacted_fields(asked), body=_body(recording.request, asked)),
        response=response,
    )
