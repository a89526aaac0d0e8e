"""One request and its response.

    SEEKING ──a stream──> UNDER_WAY ──both complete──> over
       │                     ├──101──> a Splice takes over
       └──────error──────────┴──> REFUSED ──rest of a small body──> over

How it gets to its stream is in `seeking`. If that needs no waiting there is no task and no future, and request and
response cost one write each.

Bodies pass both ways by their framing, at the same time if the two sides like. A response that begins while the request
is still being sent ends the client's connection afterwards, because the rest of the request may never come.
"""

from __future__ import annotations

import contextlib
from enum import Enum
from typing import TYPE_CHECKING, Final

from api_server.auth.errors import UnauthenticatedError
from api_server.gateway.admission import Admission
from api_server.gateway.answer import Answer
from api_server.gateway.core import GatewayCore
from api_server.gateway.errors import (
    BadRequestError,
    BadResponseError,
    BodyTooLargeError,
    RequestTimeoutError,
    ResponseTimeoutError,
    StreamResetError,
)
from api_server.gateway.fields import MalformedError
from api_server.gateway.framing import Body, ChunkedBody, LengthBody
from api_server.gateway.governor import check_size
from api_server.gateway.replies import Reply, refuse, respond
from api_server.gateway.requests import RequestHead
from api_server.gateway.seeking import EMPTY, SeekingExchange
from api_server.gateway.splice import Splice
from api_server.gateway.targets import ServiceStream, UpstreamCredential
from api_server.gateway.websocket import WebSocketSplice
from common.errors import HomeportError
from common.tunnel.stream import Buffer, ResetCode

if TYPE_CHECKING:
    from api_server.gateway.connection import ClientConnection

__all__ = ["Exchange"]

_JOINED: Final = 16 * 1024
"""Bytes up to which buffers are joined before they are written; copying them costs less than a writev."""


class _Phase(Enum):
    """Where an exchange is."""

    SEEKING = "seeking a stream"
    UNDER_WAY = "under way"
    REFUSED = "answered by the gateway, reading what is left of the request"
    OVER = "over"


# A member of an enum is found by a descriptor, which costs more than a look into the module.
_SEEKING, _UNDER_WAY, _REFUSED, _OVER = _Phase


class Exchange(SeekingExchange):
    """One request of a client; `Activity` to its connection, `StreamSink` to the stream it goes out on.

    Args:
        core: the gateway's.
        connection: the client's.
        head: the request.
    """

    __slots__ = ("_behind", "_idle", "_phase", "_received", "_renewed", "_stream")

    def __init__(self, core: GatewayCore, connection: ClientConnection, head: RequestHead) -> None:
        self._core = core
        self._connection = connection
        self._head = head
        framing = head.fields.framing
        self._body: Body = ChunkedBody() if framing.chunked else LengthBody(framing.length) if framing.length else EMPTY
        self._held = b""
        self._admission = Admission(core, connection, head)
        self._route = self._raw = self._recording = self._task = None
        self._added = self._refused = b""
        self._answer = Answer(head, core.responses, core.limits, core.clock)
        self._began = core.clock.monotonic()
        self._received = 0
        """Bytes of the request's body so far."""
        self._behind = 0
        """Bytes that had not arrived at the relay at the last deadline."""
        self._renewed = False
        """The service has answered 401 to the upstream credential once."""
        self._stream: ServiceStream | None = None
        self._phase = _SEEKING
        self._idle = core.limits.stream_idle_timeout

    def __repr__(self) -> str:
        route = self._admission.route
        where = route.target.realm if route is not None else "nowhere yet"
        return f"<Exchange {self._head.method.decode('latin-1')} to {where}: {self._phase.value}>"

    @property
    def held(self) -> int:
        return len(self._held) + (self._stream.unsent if self._stream is not None else 0)

    def _send(self, stream: ServiceStream, now: float) -> None:
        """Send the request on a stream, with what has come of its body."""
        assert self._route is not None
        target = self._route.target
        if self._raw is not None:
            self._answered(101, now)
            self._hand_over(self._raw.begin(self._core, self._connection, stream, target.streams), stream)
            return
        self._stream = stream
        self._phase = _UNDER_WAY
        stream.attach(self)
        if self._phase is not _UNDER_WAY:
            return  # the stream had ended already, and that has been dealt with
        if target.credential is not None and isinstance(self._body, ChunkedBody):
            self._body.hides = target.credential.hides
        head = self._head.for_service(
            self._route.path or b"/",
            target.prefix,
            host=target.host,
            shown=target.credential,
            added=self._added,
        )
        self._connection.arm(now + self._core.limits.service_timeout)
        if self._body.complete:
            stream.write(head)
        else:
            self._connection.resume_reading()
            held, self._held = self._held, b""
            self._pass_on(held, [head])

    def _redial(self) -> None:
        """The idle stream was stale: the request goes out again, on a fresh one."""
        self._core.metrics.retries += 1
        stale, self._stream = self._stream, None
        if stale is not None:
            stale.reset()
        self._phase = _SEEKING
        self._seek_by_task(admitted=True, stale=stale)

    def _renew(self) -> bool:
        """The service does not take the upstream credential: the request goes out again with another one, once, if
        there may be one. With a body, which is gone, it does not: False, the client gets the answer, and the next
        request the other credential.
        """
        assert self._route is not None
        credential = self._route.target.credential
        if self._renewed or credential is None or not credential.renewable:
            return False
        self._renewed = True
        if self._body is not EMPTY:
            self._core.spawn(_renew_for_others(credential, self._added))
            return False
        self._refused = self._added
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.reset()
        self._answer = Answer(self._head, self._core.responses, self._core.limits, self._core.clock)
        self._answer.cors = self._admission.cors
        self._phase = _SEEKING
        self._seek_by_task(admitted=True)
        return True

    # The request's body

    def _pass_on(self, data: bytes, out: list[Buffer]) -> None:
        """Pass bytes of the request's body on to the service, behind what is in `out`."""
        stream = self._stream
        assert stream is not None
        try:
            end = self._body.feed(data, 0, out)
            self._received += end
            check_size(self._received, self._core.limits.max_body_bytes, self._connection.ticket)
        except MalformedError as exc:
            self._refuse(BadRequestError(f"the request body is malformed: {exc}"))
            return
        except BodyTooLargeError as exc:
            self._refuse(exc)
            return
        self._core.metrics.bytes_in += end
        if self._recording is not None:
            self._recording.request_body(data[:end])
        if len(out) == 1:
            stream.write(out[0])
        elif out and sum(map(len, out)) <= _JOINED:
            stream.write(b"".join(out))
        elif out:
            stream.write_all(out)
        if end < len(data):
            self._connection.hold_ahead(data[end:])

    # Activity

    def client_data(self, data: bytes) -> None:
        if self._body.complete:
            self._connection.hold_ahead(data)
        elif self._phase is _UNDER_WAY:
            limits = self._core.limits
            self._connection.arm(
                self._core.wheel.now + (limits.service_timeout if self._answer.head is None else self._idle)
            )
            self._pass_on(data, [])
        elif self._phase is _SEEKING:
            self._held += data
        else:
            self._discard(data)

    def client_eof(self) -> None:
        if not self._body.complete:
            # The rest of the request will not come: the service must not take what it has for the whole.
            self._abandon(ResetCode.CANCELLED)
            return
        self._idle = self._core.limits.half_closed_timeout
        self._connection.arm(self._core.clock.monotonic() + self._idle)

    def client_lost(self) -> None:
        self._drop(ResetCode.CANCELLED)

    def client_paused(self) -> None:
        if self._stream is not None:
            self._stream.pause_reading()

    def client_resumed(self) -> None:
        if self._stream is not None:
            self._connection.arm(self._core.wheel.now + self._idle)
            self._stream.resume_reading()

    def due(self, now: float) -> None:
        limit = self._core.limits.service_timeout
        if self._connection.ended or self._phase is not _UNDER_WAY or self._answer.head is not None:
            self._abandon(ResetCode.TIMEOUT)
        elif self._is_being_sent():
            self._connection.arm(now + limit)
        elif not self._body.complete and self._connection.reading:
            self._refuse(RequestTimeoutError(f"nothing of the body came for {limit:g} s"), ResetCode.TIMEOUT)
        else:
            self._refuse(ResponseTimeoutError(f"the service has not answered within {limit:g} s"), ResetCode.TIMEOUT)

    def _is_being_sent(self) -> bool:
        """Whether the body is still on its way, and got on since the last deadline: a slow line is no slow service."""
        if not self._received:
            return False
        assert self._stream is not None
        before, self._behind = self._behind, self._stream.count_unacknowledged()
        return 0 < self._behind != before

    # StreamSink

    def data_received(self, data: Buffer) -> None:
        if self._phase is not _UNDER_WAY:
            return
        assert isinstance(data, bytes)
        answer, connection = self._answer, self._connection
        waited = answer.head is None
        out: list[Buffer] = []
        try:
            rest = answer.feed(data, out, persistent=self._may_persist())
        except BadResponseError as exc:
            if self._recording is not None:
                self._recording.response(data)
            self._refuse(exc)
            return
        if waited and answer.head is not None and answer.head.status == 401 and self._renew():
            return
        if self._recording is not None:
            self._recording.response(data)
        now = self._core.clock.monotonic() if waited or answer.complete else 0.0
        if waited and answer.head is not None:
            self._answered(answer.head.status, now)
            if answer.upgraded:
                self._upgrade(b"".join(out), rest)
                return
        if len(out) == 1:
            connection.write(out[0])
        elif out and sum(map(len, out)) <= _JOINED:
            connection.write(b"".join(out))
        elif out:
            connection.write_all(out)
        if answer.complete:
            self._complete(now, reusable=not rest)
        else:
            limit = self._core.limits.service_timeout if answer.head is None else self._idle
            connection.arm(self._core.wheel.now + limit)

    def eof_received(self) -> None:
        if self._answer.head is not None and not self._answer.bounded:
            self._complete(self._core.clock.monotonic(), reusable=False)
        else:
            self._stream_ended()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._stream_ended()

    def pause_writing(self) -> None:
        self._connection.pause_reading()

    def resume_writing(self) -> None:
        self._connection.resume_reading()

    def _answered(self, status: int, now: float) -> None:
        """The head of the response is there."""
        self._core.metrics.answered(status, now - self._began)
        ticket = self._connection.ticket
        if ticket is not None:
            ticket.status = status

    # The end

    def _may_persist(self) -> bool:
        """Whether the client's connection may go on after a response that begins now."""
        return self._head.persistent and self._body.complete and not self._core.draining

    def _complete(self, now: float, *, reusable: bool) -> None:
        """The response is passed on to its last byte.

        Args:
            now: seconds, monotonic.
            reusable: nothing came behind it.
        """
        stream, answer = self._stream, self._answer
        assert stream is not None
        assert answer.head is not None
        assert self._route is not None
        if self._recording is not None:
            self._end_recording()
        self._stream = None
        self._phase = _OVER
        stream.resume_reading()  # the client may be behind; for the service the exchange is over
        if not self._body.complete or (answer.bounded and not reusable):
            stream.reset()
        elif answer.bounded and answer.head.persistent:
            self._route.target.streams.put(stream, now)
        else:
            self._route.target.streams.retire(stream, now)
        self._connection.finish(now, persistent=answer.persistent, unread=not self._body.complete)

    def _upgrade(self, head: bytes, early: bytes) -> None:
        """The service has switched protocols: from here on it is bytes."""
        stream = self._stream
        assert stream is not None
        if not self._body.complete:
            self._refuse(BadResponseError("the service switches protocols in the middle of a request"))
            return
        self._stream = None
        self._connection.write(head + early)
        self._hand_over(Splice(self._core, self._connection, stream), stream)

    def _hand_over(self, successor: Splice | WebSocketSplice, stream: ServiceStream) -> None:
        """The rest is raw."""
        self._phase = _OVER
        self._end_recording(status=101)
        self._core.metrics.tunnels += 1
        stream.attach(successor)
        self._connection.become(successor)

    def _stream_ended(self) -> None:
        """The stream is over before the response is complete."""
        if self._phase is not _UNDER_WAY or self._stream is None:
            return
        if self._stream.used and self._head.repeatable and not self._answer.touched:
            self._redial()
        elif self._answer.head is None:
            self._refuse(StreamResetError("the service closed the connection before it had answered"))
        else:
            self._abandon(ResetCode.CANCELLED)

    def _respond(self, reply: Reply) -> None:
        """Answer without a service, and without an error."""
        self._phase = _OVER
        self._end_recording(status=reply.status)
        respond(self._core, self._connection, reply, persistent=self._may_persist(), unread=not self._body.complete)

    def _refuse(self, error: HomeportError, code: ResetCode = ResetCode.CANCELLED) -> None:
        """Answer with an error, if there is still an answer to give, and keep the connection if that is safe."""
        if self._answer.head is not None:
            self._abandon(code)
            return
        self._end_recording(status=error.status, code=error.code)
        self._drop(code)
        core, connection, admission, body = self._core, self._connection, self._admission, self._body
        if isinstance(error, UnauthenticatedError) and body.complete:
            reply = admission.to_sign_in()
            if reply is not None:
                self._respond(reply)
                return
        if refuse(
            core,
            connection,
            self._head,
            error,
            body=body,
            held=len(self._held),
            route=admission.route,
            cors=admission.cors,
        ):
            return
        self._phase = _REFUSED
        connection.arm(core.clock.monotonic() + core.limits.header_timeout)
        connection.resume_reading()
        self._discard(self._held)

    def _discard(self, data: bytes) -> None:
        """Throw away what is left of a refused request."""
        end = self._body.feed(data, 0, [])
        if end < len(data):
            self._connection.hold_ahead(data[end:])
        if self._body.complete:
            self._phase = _OVER
            self._connection.finish(self._core.clock.monotonic(), persistent=True)

    def _abandon(self, code: ResetCode) -> None:
        """There is no way to say it in HTTP: cut both sides."""
        self._drop(code)
        self._connection.reset()

    def _end_recording(self, *, status: int = 0, code: str | None = None) -> None:
        """The request is over, as far as whoever inspects it is concerned."""
        self._recording = None
        self._admission.end_recording(status=status, code=code)

    def _drop(self, code: ResetCode) -> None:
        """Give up what the exchange holds."""
        self._phase = _OVER
        self._end_recording(code="cut")
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.reset(code)


async def _renew_for_others(credential: UpstreamCredential, refused: bytes) -> None:
    with contextlib.suppress(HomeportError):  # whoever needs it next is told
        await credential.renew(refused)
