"""Names that mean what a test says, and a server that says what a test wants and counts who came."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from api_server.outbound.outbound import Outbound

__all__ = ["OK", "FakeNames", "Handler", "Listener", "listening", "no_outbound", "saying"]

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class FakeNames:
    """Name servers. Each question takes the next answer of a name; the last one stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self._answers.get(host)
        if answers is None:
            raise OSError(-2, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


@dataclass
class Listener:
    """A server, and what came to it."""

    host: str
    port: int
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    """Of requests."""


def no_outbound(*allowed: str) -> Outbound:
    """What reaches `allowed`, by http: it trusts nobody's certificate, and so takes no time to read any."""
    return Outbound(allowed, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def saying(*parts: bytes) -> Handler:
    """Answers with `parts`, and closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return handler


@asynccontextmanager
async def listening(
    handler: Handler, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    """A server that reads a head, and then does as `handler` says."""
    listener = Listener(host, 0)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.connections += 1
        try:
            listener.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await handler(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, host, 0, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listener
