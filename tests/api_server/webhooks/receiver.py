"""A real HTTP server that webhooks are sent to; signatures are checked by code of other people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook as Checker

__all__ = ["Message", "Receiver", "receiving"]


@dataclass(frozen=True)
class Message:
    """One that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """What it says, if it is signed with `secret`.

        Raises:
            WebhookVerificationError: it is not.
        """
        data: dict[str, Any] = Checker(secret).verify(self.body, self.headers)
        return data


Answer = Callable[[Message], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """What came, and how it is answered: by path, else 204."""

    url: str
    came: list[Message] = field(default_factory=list)
    answers: dict[str, Answer | int] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        message = Message(request.path, {k.lower(): v for k, v in request.headers.items()}, await request.read())
        self.came.append(message)
        self.news.set()
        answer = self.answers.get(request.path, 204)
        return web.Response(status=answer) if isinstance(answer, int) else await answer(message)

    async def wait(self, number: int) -> list[Message]:
        """The messages, once so many have come."""
        async with asyncio.timeout(20):
            while len(self.came) < number:
                self.news.clear()
                await self.news.wait()
        return self.came


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port of the loopback address."""
    receiver = Receiver("")
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"http://127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
