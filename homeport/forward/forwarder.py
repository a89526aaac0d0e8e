"""Dials the gateway for each connection: from a local port, or once for standard input and output."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from common.secret import Secret
from homeport.errors import ForwardError, GatewayUnreachableError, ListenError, StreamCutError
from homeport.forward.ends import SocketEnd, join, show_address
from homeport.forward.handshake import GatewayUrl, Target, UpgradeHandshake
from homeport.forward.stdio import StdioEnd

__all__ = ["Dialer", "forward_port", "forward_stdio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialer:
    """Opens streams to one service.

    Args:
        gateway: where to dial.
        target: the service.
        token: the API token that may call it.
        tls: for an https gateway.
        timeout: seconds for one attempt, from the look-up of the name to the stream.
    """

    gateway: GatewayUrl
    target: Target
    token: Secret
    tls: ssl.SSLContext | None = None
    timeout: float = 30.0

    async def dial(self) -> SocketEnd:
        """A stream to the service; what it sent already is kept until it is joined.

        Raises:
            UpgradeRefusedError: the gateway says no, and why.
            GatewayUnreachableError: there is no gateway.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timeout):
                _, dialing = await loop.create_connection(
                    lambda: _Dialing(UpgradeHandshake(self.gateway, self.target, self.token), loop.create_future()),
                    self.gateway.host,
                    self.gateway.port,
                    ssl=self.tls if self.gateway.tls else None,
                )
                return await dialing.opened
        except TimeoutError as exc:
            raise GatewayUnreachableError(f"{self.gateway} did not answer within {self.timeout:g} s") from exc
        except OSError as exc:
            raise GatewayUnreachableError(f"{self.gateway} cannot be reached: {exc.strerror or exc}") from exc


class _Dialing(asyncio.Protocol):
    """The connection until the gateway has answered; then a `SocketEnd` takes its transport over."""

    def __init__(self, handshake: UpgradeHandshake, opened: asyncio.Future[SocketEnd]) -> None:
        self._handshake = handshake
        self._transport: asyncio.Transport | None = None
        self.opened = opened
        opened.add_done_callback(self._given_up)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._transport.write(self._handshake.request())

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self.opened.done():
            return
        try:
            first = self._handshake.receive_data(data)
        except ForwardError as exc:
            self.opened.set_exception(exc)
            self._transport.abort()
            return
        if first is None:
            return
        end = SocketEnd()
        self._transport.set_protocol(end)
        end.connection_made(self._transport)
        if first:
            end.data_received(first)
        self.opened.set_result(end)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            error = self._handshake.receive_eof()
            error.__cause__ = exc
            self.opened.set_exception(error)

    def _given_up(self, opened: asyncio.Future[SocketEnd]) -> None:
        if opened.cancelled() and self._transport is not None:
            self._transport.abort()


async def forward_port(
    dialer: Dialer,
    host: str,
    port: int,
    *,
    on_listening: Callable[[list[str]], None],
    on_refused: Callable[[str, ForwardError], None],
) -> None:
    """Listen, and join each connection to a new stream, until cancelled; then reset what is open.

    Args:
        dialer: opens the streams.
        host: address to listen on.
        port: TCP port; 0 for any free one.
        on_listening: told the addresses, each as `host:port`.
        on_refused: told the client's address and why its connection was not forwarded.

    Raises:
        ListenError: the address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    ends: set[SocketEnd] = set()

    async def serve(client: SocketEnd) -> None:
        try:
            stream = await dialer.dial()
        except ForwardError as exc:
            on_refused(client.peer, exc)
            client.abort()
        else:
            join(client, stream)

    def accept() -> SocketEnd:
        def connected(end: SocketEnd) -> None:
            ends.add(end)
            dialing.create_task(serve(end))

        end = SocketEnd(connected, lambda _exc: ends.discard(end))
        return end

    try:
        server = await loop.create_server(accept, host, port, start_serving=False)
    except (OSError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ListenError(f"cannot listen on {host} port {port}: {reason}; choose another by --listen") from exc
    try:
        async with asyncio.TaskGroup() as dialing:
            await server.start_serving()
            on_listening([show_address(each.getsockname()) for each in server.sockets])
            await loop.create_future()
    finally:
        server.close()
        for end in tuple(ends):
            end.abort()


async def forward_stdio(dialer: Dialer, source: int, sink: int) -> None:
    """Join two file descriptors to one stream, until both directions have ended.

    Raises:
        ForwardError: there is no stream, or it was cut short.
    """
    stdio = StdioEnd(asyncio.get_running_loop(), source, sink)
    stream = await dialer.dial()
    join(stdio, stream)
    try:
        await stdio.wait_closed()
    except OSError as exc:
        raise StreamCutError(f"the stream to {dialer.target} was cut: {exc.strerror or exc}") from exc
