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
    """One connection."""

    __slots__ = ("_address", "_quick", "_whole")

    _quick: QuickAnswers | None
    _address: str
    _whole: bool
    """All that came so far were whole heads: what comes next begins a request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._whole = True
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if isinstance(peer, tuple) and peer else ""
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Answer at once what can be, while nothing else is under way; hand everything else on."""
        quick = self._quick
        if quick is not None and self._whole and data.startswith(quick.prefix) and self._is_idle():
            answer = quick.answer(data, self._address)
            if answer is not None:
                assert self.transport is not None
                self.transport.write(answer)
                self._next_keepalive_close_time = self._loop.time() + _KEEPALIVE
                return
        self._whole = self._whole and is_whole_head(data)
        super().data_received(data)

    def _is_idle(self) -> bool:
        """Whether the connection waits for a request, and its client has taken all answers."""
        waiter, transport = self._waiter, self.transport
        waits = waiter is not None and not waiter.done() and not self._messages and not self._force_close
        return waits and transport is not None and transport.get_write_buffer_size() == 0

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
        log: for what goes wrong with connections.
    """

    def __init__(
        self, application: web.Application, *, quick: QuickAnswers | None = None, log: Logger | None = None
    ) -> None:
        self._quick = quick
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

        def connection() -> _Connection:
            made = _Connection(
                manager,
                loop=loop,
                keepalive_timeout=_KEEPALIVE,
                lingering_time=_LINGERING,
                access_log=None,  # type: ignore[arg-type]  # aiohttp's way to say: no access log
                auto_decompress=False,  # a compressed body is refused
            )
            made._quick = self._quick
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
