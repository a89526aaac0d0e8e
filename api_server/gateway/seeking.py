"""The way of one request to a stream: whether it may go, what it shows, to which device, and on which stream.

    begin ──> admission, upstream credential, idle stream, limits of its device ──> _send
      └─ as soon as one of them takes waiting ──> _seek, a task that does what is left ──> _send

Whatever needs no waiting is decided at once. Then there is no task and no future.

Which stream. A request that may be sent twice (RFC 9110 section 9.2.2: an idempotent method; and without a body, since
that would be gone) takes any idle stream: if the service has just closed it, no byte was answered, and it is sent again
once on a fresh one. Any other request must not be sent twice (section 9.2.2 forbids it to a proxy), so it takes only a
stream that was in use within the last `unsafe_reuse` seconds, which is shorter than servers keep connections, and else
a fresh one. If that fails too it is a 502 `stream_reset`, and the client decides.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

import structlog

from api_server.gateway.admission import Admission
from api_server.gateway.answer import Answer
from api_server.gateway.core import GatewayCore
from api_server.gateway.errors import InternalError
from api_server.gateway.framing import Body, EmptyBody
from api_server.gateway.inspection import Recording
from api_server.gateway.raw import RawUpgrade, raw_upgrade
from api_server.gateway.replies import Reply
from api_server.gateway.requests import RequestHead
from api_server.gateway.routes import Route
from api_server.gateway.targets import ServiceStream
from api_server.gateway.timers import NEVER
from common.errors import HomeportError
from common.sessions.interfaces import OpenOptions

if TYPE_CHECKING:
    from api_server.gateway.connection import ClientConnection

__all__ = ["EMPTY", "SeekingExchange"]

_log = structlog.get_logger(__name__)

EMPTY: Final = EmptyBody()
"""The body of every request that has none."""


class SeekingExchange(ABC):
    """A request, as far as it needs a stream.

    A base class and not a part, which would be one object more for each request. Who derives from it sets what is named
    here, because a constructor of its own would be one call more.
    """

    __slots__ = (
        "_added",
        "_admission",
        "_answer",
        "_began",
        "_body",
        "_connection",
        "_core",
        "_head",
        "_held",
        "_raw",
        "_recording",
        "_refused",
        "_route",
        "_task",
    )

    _core: GatewayCore
    _connection: ClientConnection
    _head: RequestHead
    _admission: Admission
    _answer: Answer
    _began: float
    _body: Body
    """The request's, as the client sends it."""
    _held: bytes
    """What of it came before there was a stream to send it on."""
    _route: Route | None
    """That it goes, once it may."""
    _raw: RawUpgrade | None
    """What the client becomes, if it wants raw TCP."""
    _added: bytes
    """Lines that show the upstream credential."""
    _refused: bytes
    """Those that the service has just answered 401 to."""
    _recording: Recording | None
    """Gets the bytes that go by, of a route that is inspected; the admission's."""
    _task: asyncio.Task[None] | None

    @abstractmethod
    def _send(self, stream: ServiceStream, now: float) -> None:
        """Send the request on a stream, with what has come of its body."""

    @abstractmethod
    def _respond(self, reply: Reply) -> None:
        """Answer without a service, and without an error."""

    @abstractmethod
    def _refuse(self, error: HomeportError) -> None:
        """Answer with an error."""

    def begin(self) -> None:
        """Serve it; without waiting if possible."""
        admitted = False
        if not self._body.complete:
            self._held = self._connection.take_ahead()
        try:
            decided = self._admission.decide_nowait()
            if isinstance(decided, Route):
                admitted = True
                if self._begin_at_once(decided):
                    return
            elif isinstance(decided, Reply):
                self._respond(decided)
                return
        except HomeportError as exc:
            self._refuse(exc)
            return
        if isinstance(decided, HomeportError):
            self._refuse(decided)
            return
        if not self._body.complete:
            self._connection.pause_reading()
        self._seek_by_task(admitted=admitted)

    def _seek_by_task(self, *, admitted: bool, stale: ServiceStream | None = None) -> None:
        """Seek a stream; the arguments are those of `_seek`."""
        self._connection.arm(NEVER)  # what is awaited has its own time limits
        self._task = self._core.spawn(self._seek(admitted=admitted, stale=stale))

    def _begin_at_once(self, route: Route) -> bool:
        """Send the request on an idle stream; False if that takes waiting."""
        admission, target = self._admission, route.target
        self._route = route
        self._recording = admission.recording
        self._answer.cors = admission.cors
        if target.raw:
            self._raw = raw_upgrade(self._head)
            return False
        if target.credential is not None:
            added = target.credential.lines_nowait()
            if added is None:
                return False
            self._added = added
        stream = target.streams.take(self._began, self._max_idle())
        if stream is None or (target.device is None and not self._reach_nowait(stream)):
            return False
        self._send(stream, self._began)
        return True

    def _reach_nowait(self, stream: ServiceStream) -> bool:
        """Whether the limits of the device that was chosen let the request pass; False when only `_reach` can tell. The
        stream goes back then, and if they do not.
        """
        assert self._route is not None
        ticket, streams = self._connection.ticket, self._route.target.streams
        device = streams.device_of(stream) if ticket is not None else None
        if ticket is None or device is None:
            return True
        try:
            passes = ticket.reach_nowait(device, self._head)
        except HomeportError:
            streams.put(stream, self._began)
            raise
        if not passes:
            streams.put(stream, self._began)
        return passes

    async def _reach(self, stream: ServiceStream) -> None:
        """The same, and wait for the shared counter if need be."""
        assert self._route is not None
        ticket, streams = self._connection.ticket, self._route.target.streams
        device = streams.device_of(stream) if ticket is not None else None
        if ticket is None or device is None:
            return
        try:
            await ticket.reach(device, self._head)
        except HomeportError:
            streams.put(stream, self._core.clock.monotonic())
            raise
        except BaseException:
            stream.reset()
            raise

    async def _seek(self, *, admitted: bool, stale: ServiceStream | None = None) -> None:
        """What could not be done without waiting: find out whether the request may go on its way, get the upstream
        credential, and a stream.

        Args:
            admitted: it may.
            stale: the idle stream that was tried.
        """
        try:
            if not admitted:
                decided = await self._admission.decide()
                # What is done at once may end the exchange, and must not cancel its own task then.
                task, self._task = self._task, None
                if isinstance(decided, Reply):
                    self._respond(decided)
                    return
                if self._begin_at_once(decided):
                    return
                self._task = task
            stream = await self._get_stream(stale)
        except HomeportError as exc:
            self._task = None
            self._refuse(exc)
        except Exception:
            _log.exception("a request failed", request=repr(self))
            self._task = None
            self._refuse(InternalError("the gateway failed; its log says how"))
        else:
            self._task = None
            self._send(stream, self._core.clock.monotonic())

    async def _get_stream(self, stale: ServiceStream | None) -> ServiceStream:
        stream = await self._find_stream(stale)
        await self._reach(stream)
        return stream

    async def _find_stream(self, stale: ServiceStream | None) -> ServiceStream:
        assert self._route is not None
        core, target = self._core, self._route.target
        if target.credential is not None:
            credential, refused = target.credential, self._refused
            self._refused = b""
            self._added = await (credential.renew(refused) if refused else credential.lines())
        trace = self._head.fields.trace
        options = OpenOptions(
            timeout=core.limits.open_timeout, traceparent=trace.decode("ascii") if trace is not None else None
        )
        if self._connection.ticket is not None:
            await self._connection.ticket.wait_open()
        if stale is not None:
            return await target.streams.redial(stale, options)
        if self._raw is not None:
            return await target.streams.dial(options)
        return await target.streams.get(core.clock.monotonic(), self._max_idle(), options)

    def _max_idle(self) -> float | None:
        """Seconds that a stream may have been idle to carry the request."""
        return None if self._head.repeatable else self._core.limits.unsafe_reuse
