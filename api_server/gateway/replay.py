"""Sends a request again that went to an inspected route, on behalf of who may call it.

It takes the way of any request: the route as it is now, the right to call, the limits, the route's own credential.
What the client showed of itself was never kept, and is not sent. The response is read to its end, up to a bound, and
recorded like any other; nobody else gets it.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from api_server.auth.interfaces import Identity
from api_server.gateway.answer import Answer
from api_server.gateway.core import GatewayCore
from api_server.gateway.errors import BadResponseError, NoRouteError, ResponseTimeoutError, StreamResetError
from api_server.gateway.forwarding import Client
from api_server.gateway.governor import Ticket
from api_server.gateway.inspection import Recorder, Recording
from api_server.gateway.requests import RequestHead, RequestReader
from api_server.gateway.routes import Route
from common.errors import HomeportError
from common.sessions.interfaces import OpenOptions
from common.tunnel.stream import Buffer

__all__ = ["replay"]

_TIME: Final = 30.0
"""Seconds for all of it: somebody waits for the answer of the API."""

_MAX_RESPONSE: Final = 1024 * 1024
"""Bytes of the response that are read; then it is cut."""

_FRAMING: Final = re.compile(
    rb"(?im)^(?:content-length|transfer-encoding|expect|connection|keep-alive|te|upgrade)[ \t]*:[^\n]*\n"
)


class _Sink:
    """Reads the response."""

    def __init__(self, core: GatewayCore, head: RequestHead, recording: Recording) -> None:
        self._answer = Answer(head, core.responses, core.limits, core.clock)
        self._recording = recording
        self._read = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def status(self) -> int:
        return self._answer.head.status if self._answer.head is not None else 0

    def data_received(self, data: Buffer) -> None:
        if self.over.done():
            return
        raw = bytes(data)
        self._recording.response(raw)
        self._read += len(raw)
        try:
            self._answer.feed(raw, [], persistent=False)
        except BadResponseError as exc:
            self.over.set_exception(exc)
            return
        if self._answer.complete or self._answer.upgraded or self._read > _MAX_RESPONSE:
            self.over.set_result(None)

    def eof_received(self) -> None:
        self._ended(orderly=self._answer.head is not None and not self._answer.bounded)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._ended(orderly=False)

    def _ended(self, *, orderly: bool) -> None:
        if self.over.done():
            return
        if orderly:
            self.over.set_result(None)
        else:
            self.over.set_exception(StreamResetError("the service closed the connection before its response was whole"))

    def pause_writing(self) -> None:
        """What is written is bounded."""

    def resume_writing(self) -> None:
        """The same."""


async def replay(
    core: GatewayCore,
    recorder: Recorder,
    identity: Identity,
    *,
    address: str,
    route_id: str,
    request: str,
    head: bytes,
    body: bytes,
) -> Recording:
    """Send a request again; returns once it is answered, or has failed: either is in the recording.

    Args:
        core: of the gateway.
        recorder: gets it.
        identity: who wants it sent.
        address: from where.
        route_id: that it went to, and has to go to still.
        request: its id.
        head: as it was kept.
        body: whole, without its framing.

    Raises:
        ForbiddenError, NoRouteError, QuotaExceededError: it is not sent.
    """
    client = Client(address, lambda: b"localhost", ())
    reader = RequestReader(
        client, core.known_sections, max_target=core.limits.max_target_bytes, max_fields=core.limits.max_fields
    )
    parsed = reader.read(_framed(head, body))
    if parsed.refusal is not None:
        raise parsed.refusal
    found = core.router.route(parsed.fields.host, parsed.target.path)
    if found is None or found.target.route_id != route_id:
        raise NoRouteError("the route has another path now; the request would go elsewhere")
    route = core.gatekeeper.admit(identity, found)
    admitted = True if core.governor is None else await core.governor.admit(identity, route.target, parsed)
    ticket = admitted if isinstance(admitted, Ticket) else None
    recording = recorder.begin(route.target, parsed, identity, replay_of=request)
    if recording is None:
        if ticket is not None:
            ticket.end(0, 0)
        raise NoRouteError("the route is not inspected now")
    status = 0
    try:
        recording.request_body(body)
        async with asyncio.timeout(_TIME):
            status = await _send(core, route, parsed, body, recording, ticket)
        recording.end()
    except TimeoutError:
        error: HomeportError = ResponseTimeoutError(f"the service has not answered within {_TIME:g} s")
        status = error.status
        recording.end(status=status, code=error.code)
    except HomeportError as exc:
        status = exc.status
        recording.end(status=status, code=exc.code)
    finally:
        recording.end(code="cancelled")
        if ticket is not None:
            ticket.status = status
            ticket.end(len(head) + len(body), 0)
    return recording


async def _send(
    core: GatewayCore, route: Route, head: RequestHead, body: bytes, recording: Recording, ticket: Ticket | None
) -> int:
    target = route.target
    added = b"" if target.credential is None else await target.credential.lines()
    if ticket is not None:
        await ticket.wait_open()
    stream = await target.streams.dial(OpenOptions(timeout=core.limits.open_timeout))
    sink = _Sink(core, head, recording)
    try:
        device = target.streams.device_of(stream)
        if ticket is not None and device is not None:
            await ticket.reach(device, head)
        stream.attach(sink)
        stream.write(
            head.for_service(
                route.path or b"/",
                target.prefix,
                host=target.host,
                shown=target.credential,
                added=added,
            )
            + body
        )
        await sink.over
    finally:
        sink.over.cancel()
        stream.reset()
    return sink.status


def _framed(head: bytes, body: bytes) -> bytes:
    """A head that frames the body by its length."""
    lines = _FRAMING.sub(b"", head).removesuffix(b"\r\n")
    length = b"Content-Length: %d\r\n" % len(body) if body or not head.startswith((b"GET ", b"HEAD ")) else b""
    return lines + length + b"Connection: close\r\n\r\n"
