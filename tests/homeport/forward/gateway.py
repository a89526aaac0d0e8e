"""A gateway of one page: it answers upgrade requests as it is told, and hands the stream to a scripted service."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from common.secret import Secret
from homeport.forward.forwarder import Dialer
from homeport.forward.handshake import GatewayUrl, Target

__all__ = ["Service", "gateway", "opened"]

OPENED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: homeport-tcp\r\n\r\n"

Service = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def gateway(service: Service, tls: ssl.SSLContext | None = None) -> AsyncIterator[Dialer]:
    """Serve; gives what dials it. The service is called with the request's head read already."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"GET /t/home/demo/tcp HTTP/1.1\r\n")
        try:
            await service(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        host, port = server.sockets[0].getsockname()
        url = GatewayUrl.parse(f"{'http' if tls is None else 'https'}://{host}:{port}")
        yield Dialer(gateway=url, target=Target.parse("home/demo/tcp"), token=Secret("hp_token"), timeout=20)


def opened(service: Service) -> Service:
    """`service` behind a 101."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPENED)
        await service(reader, writer)

    return serve
