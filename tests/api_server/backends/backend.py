"""A backend: a server on loopback, over TLS or not, that does on each connection what a test says.

    async with Backend(serve, tls=certificate) as backend:
        backend.url

`serve` gets a `ServiceSide` for each connection, as a service behind the scripted relay does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Any

from tests.api_server.relay.fake_relay import Service, ServiceSide
from tests.stack.certificates import Certificate

__all__ = ["Backend"]


class Backend:
    """One backend. Use it as an async context manager.

    Args:
        serve: what it does on a connection.
        tls: its certificate; None for none.
    """

    def __init__(self, serve: Service, *, tls: Certificate | None = None) -> None:
        self._serve = serve
        self._tls: ssl.SSLContext | None = None
        if tls is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(tls.certificate, tls.key)
            self._tls.sni_callback = self._named
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.connections = 0
        self.names: list[str | None] = []
        """What was asked for in TLS handshakes."""
        self.port = 0

    def _named(self, _: Any, name: str | None, __: Any) -> None:
        self.names.append(name)

    @property
    def url(self) -> str:
        """Of its root, without a slash at the end."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Backend:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        side = ServiceSide(reader, writer, {})
        try:
            # Cancelled by the end of the stage alone; asyncio's streams would take a cancelled handler for a fault.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await self._serve(side)
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
