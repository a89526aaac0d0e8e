"""The listener of the REST API.

aiohttp serves the control API, never the forwarding. Its own answers to what is not HTTP would be plain text that
quotes the bytes received, and its log lines too; both are replaced here, because a request that is malformed may still
hold a token.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from api_server.http.browsers import SECURITY_HEADERS
from api_server.http.errors import InternalError, MalformedRequestError
from api_server.http.problems import problem_response
from api_server.http.quick import QuickAnswers, is_whole_head
from common.logging import Logger, get_logger

__all__ = ["RestServer"]

_KEEPALIVE = 75.0
"""Seconds that an idle connection is kept, and that a client may take for the head of its first request."""

_LINGERING = 5.0
"""Seconds that the rest of a body is read and dropped after an early answer, so that the client gets to see it."""

_SHUTDOWN = 2.0
"""Seconds that requests under way are given at the end; none of ours takes longer, event streams are ended before."""


class _Connection(web.RequestHandler):
    """One connection.

    Quick answers are written beside aiohttp, which is not told of them. So it has to be certain that aiohttp has
    nothing under way: heads that it was handed are counted until `finish_response`. And its timer for idle connections,
    which it sets when it has answered, is taken from it (`keep_alive`) until it begins another request; this class has
    one of its own instead.

    Nothing of aiohttp is used here whose name begins with an underscore; a test sees to that.
    """

    __slots__ = ("_address", "_answered_at", "_idle_timer", "_now", "_pending", "_quick", "_schedule", "_whole")

    _quick: QuickAnswers | None
    """None from when on no more are to be given."""
    _address: str
    _whole: bool
    """All that came so far were whole heads: what comes next begins a request."""
    _pending: int
    """So many of them aiohttp has not answered yet."""
    _answered_at: float | None
    """When the last quick answer was given, if aiohttp has begun nothing since."""
    _idle_timer: asyncio.TimerHandle | None

    def begin(self, quick: QuickAnswers | None) -> None:
        """What its constructor does not."""
        loop = asyncio.get_running_loop()
        self._now, self._schedule = loop.time, loop.call_at
        self._quick = quick
        self._whole = True
        self._pending = 0
        self._answered_at = self._idle_timer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if isinstance(peer, tuple) and peer else ""
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._quick = None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer at once what can be, while nothing else is under way; hand everything else on."""
        quick = self._quick
        if quick is not None and self._whole:
            if not self._pending and data.startswith(quick.prefix) and self._has_taken_all():
                answer = quick.answer(data, self._address)
                if answer is not None:
                    assert self.transport is not None
                    self.transport.write(answer)
                    self._answered()
                    return
            self._whole = is_whole_head(data)
            self._pending += 1
        super().data_received(data)

    def _has_taken_all(self) -> bool:
        """Whether the client has taken all answers."""
        transport = self.transport
        return transport is not None and not transport.is_closing() and transport.get_write_buffer_size() == 0

    def _answered(self) -> None:
        self._answered_at = self._now()
        self.keep_alive(True)  # which ends its timer
        if self._idle_timer is None:
            self._idle_timer = self._schedule(self._answered_at + self.keepalive_timeout, self._check_idle)

    def _check_idle(self) -> None:
        self._idle_timer = None
        if self._answered_at is None or (self._whole and self._pending):
            return  # aiohttp has a request since, and a timer again once it is answered
        closes_at = self._answered_at + self.keepalive_timeout
        if self._now() < closes_at:
            self._idle_timer = self._schedule(closes_at, self._check_idle)
        else:
            self.force_close()

    def begun(self) -> None:
        """aiohttp has begun a request."""
        self._answered_at = None

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        self._pending -= 1
        if not finished[0].keep_alive:
            self._quick = None  # it was the last one
        return finished

    def close(self) -> None:
        """Take no more requests."""
        self._quick = None
        super().close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Take no more requests, and end."""
        self._quick = None
        await super().shutdown(timeout)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it quotes the request
    ) -> web.StreamResponse:
        """Answer what never reached a handler."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status < 500:
            self.logger.debug("malformed request from %s: %s", request.remote, type(exc).__name__)
            response = problem_response(MalformedRequestError("the request is not HTTP/1.1 as RFC 9112 describes it"))
        else:
            self.logger.error("request from %s failed", request.remote, exc_info=exc)
            response = problem_response(InternalError())
        response.headers.update(SECURITY_HEADERS)
        response.force_close()
        return response


class RestServer:
    """Listens for the application.

    Args:
        application: from `RestApplication.build`.
        quick: answers some requests at once; None for none.
        keepalive: seconds that an idle connection is kept, and that a client may take for the first head.
        log: for what goes wrong with connections.
    """

    def __init__(
        self,
        application: web.Application,
        *,
        quick: QuickAnswers | None = None,
        keepalive: float = _KEEPALIVE,
        log: Logger | None = None,
    ) -> None:
        self._quick = quick
        self._keepalive = keepalive
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN)
        self._log = log if log is not None else get_logger(__name__)
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listen; returns the port.

        Raises:
            OSError: the address cannot be listened on.
        """
        await self._runner.setup()
        manager = self._runner.server
        assert manager is not None
        loop = asyncio.get_running_loop()

        # It tells nobody by itself when it begins a request.
        handle = manager.request_handler

        async def handled(request: web.BaseRequest) -> web.StreamResponse:
            connection = request.protocol
            assert isinstance(connection, _Connection)
            connection.begun()
            return await handle(request)

        manager.request_handler = handled

        def connection() -> _Connection:
            made = _Connection(
                manager,
                loop=loop,
                keepalive_timeout=self._keepalive,
                lingering_time=_LINGERING,
                access_log=None,  # type: ignore[arg-type]  # aiohttp's way to say: no access log
                auto_decompress=False,  # a compressed body is refused
            )
            made.begin(self._quick)
            return made

        self._server = await loop.create_server(connection, host, port, reuse_port=reuse_port or None)
        return int(self._server.sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        """Take no new connections."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Take no new connections, wait a moment for the requests that are being answered, and end."""
        self.stop_listening()
        await self._runner.cleanup()
