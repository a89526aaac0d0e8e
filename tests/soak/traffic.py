"""Clients of every kind, all the time, through both gateways; what they get is compared byte by byte.

    small       GET of 512 bytes on kept connections
    upload      POST of a few MiB; the service answers with their hash
    download    GET of a few MiB, compared as they come
    slow        a download that is read in sips, slower than anybody sends
    events      server-sent events, of which none may be missing
    websocket   messages and their echoes
    tcp         raw TCP: messages and their echoes, and an end in order

What becomes of a request is one word or a few: `ok`; the status and code of the gateway, as in `502 device_offline`;
`refused`, `reset`, `cut` (ended in the middle); `silent` after `PATIENCE` seconds without a byte; `wrong` for bytes
that nobody sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

import aiohttp

from homeport.demo.keystream import keystream

__all__ = ["HANGS", "KINDS", "NEVER", "PATIENCE", "Client", "Outcome", "Traffic"]

PATIENCE = 60.0
"""Seconds without a byte: more than any time that a process waits for another one, on a busy machine too."""

NEVER = frozenset({"wrong", "silent"})
"""What no fault excuses."""

HANGS = "silent"

_MIB = 1024 * 1024
_PAUSE = 0.05
_AFTER_FAILURE = 0.25
_SIZES = (100_000, 1_000_000, 3_000_000)
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_read=PATIENCE, sock_connect=PATIENCE)
_SHA256 = {size: hashlib.sha256(b"".join(keystream(0, size))).hexdigest() for size in _SIZES}
_SMALL = b"".join(keystream(0, 512))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, or what is one for its kind."""

    kind: str
    client: str
    gateway: str
    device: str
    began: float
    """Monotonic time."""
    ended: float
    result: str


class _FailedError(Exception):
    """It did not get what it should; the message is the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who asks, whom, and by which way."""

    kind: str
    gateway: str
    """Name of the gateway."""
    url: str
    """Of the gateway, or of a proxy before it."""
    device: str
    shaky: bool = False
    """Its own line to the gateway has faults."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind} by {'a bad line to ' if self.shaky else ''}{self.gateway} to {self.device}"


class Traffic:
    """Runs clients until it is told to stop.

    Args:
        token: of the API.
        team: of the devices.
        on_end: told of each outcome.
        seed: of sizes and pauses.
    """

    def __init__(self, token: str, team: str, on_end: Callable[[Outcome], None], *, seed: int) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}
        self._team = team
        self._on_end = on_end
        self._seed = seed
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin nothing more; what is under way ends."""
        self._stopping.set()

    async def run(self, client: Client) -> None:
        """Be one client until `stop`."""
        rng = random.Random(f"{self._seed} {client.name}")
        connector = aiohttp.TCPConnector(limit=4)
        async with aiohttp.ClientSession(
            headers=self._headers, connector=connector, timeout=_NO_LIMIT, auto_decompress=False
        ) as session:
            while not self._stopping.is_set():
                began = time.monotonic()
                result = await _result(KINDS[client.kind](self, session, client, rng))
                ended = time.monotonic()
                self._on_end(Outcome(client.kind, client.name, client.gateway, client.device, began, ended, result))
                with suppress(TimeoutError):
                    pause = _PAUSE if result == "ok" else _AFTER_FAILURE
                    await asyncio.wait_for(self._stopping.wait(), pause * rng.uniform(0.5, 1.5))

    def _url(self, client: Client, path: str) -> str:
        return f"{client.url}/d/{self._team}/{client.device}/web{path}"

    async def small(self, session: aiohttp.ClientSession, client: Client, rng: random.Random) -> None:
        async with session.get(self._url(client, "/bytes/512")) as answer:
            await _check(answer)
            if await answer.read() != _SMALL:
                raise _FailedError("wrong")

    async def upload(self, session: aiohttp.ClientSession, client: Client, rng: random.Random) -> None:
        size = rng.choice(_SIZES)
        async with session.post(
            self._url(client, "/sha256"), data=_body(size), headers={"Content-Length": str(size)}
        ) as answer:
            await _check(answer)
            if await answer.text() != _SHA256[size]:
                raise _FailedError("wrong")

    async def download(self, session: aiohttp.ClientSession, client: Client, rng: random.Random) -> None:
        size = rng.choice(_SIZES)
        async with session.get(self._url(client, f"/bytes/{size}")) as answer:
            await _check(answer)
            await _compare(answer, size)

    async def slow(self, session: aiohttp.ClientSession, client: Client, rng: random.Random) -> None:
        size = 6_000_000  # more than all the buffers on its way take
        async with session.get(self._url(client, f"/bytes/{size}"), read_bufsize=8 * 1024) as answer:
            await _check(answer)
            await _compare(answer, size, pause=0.25)

    async def events(self, session: aiohttp.ClientSession, client: Client, rng: random.Random) -> None:
        async with session.get(self._url(client, "/clock")) as answer:
            await _check(answer)
            for number in range(rng.randint(3, 20)):
                event = b""
                while not event.endswith(b"\n\n"):
                    event += await answer.content.readline() or _cut()
                if not event.startswith(b"id: %d\n" % number):
                    raise _FailedError("wrong")
            answer.close()  # it would never end

    async def websocket(self, session: aiohttp.ClientSession, client: Client, rng: random.Random) -> None:
        async with session.ws_connect(
            self._url(client, "/echo"), timeout=aiohttp.ClientWSTimeout(ws_receive=PATIENCE, ws_close=PATIENCE)
        ) as socket:
            for number in range(rng.randint(10, 100)):
                message = b"%08d" % number * rng.choice((1, 100, 5000))
                await socket.send_bytes(message)
                answer = await socket.receive()
                if answer.type is not aiohttp.WSMsgType.BINARY:
                    raise _FailedError("cut")
                if answer.data != message:
                    raise _FailedError("wrong")
                await asyncio.sleep(_PAUSE)

    async def tcp(self, session: aiohttp.ClientSession, client: Client, rng: random.Random) -> None:
        place = urlsplit(client.url)
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            authorization = self._headers["Authorization"]
            writer.write(
                f"GET /t/{self._team}/{client.device}/echo HTTP/1.1\r\nHost: {place.netloc}\r\n"
                f"Authorization: {authorization}\r\nConnection: Upgrade\r\nUpgrade: homeport-tcp\r\n\r\n".encode()
            )
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 "):
                code = await reader.read(64 * 1024) if b"problem+json" in head else b""
                raise _FailedError(f"{head.split()[1].decode()} {_code(code)}".strip())
            for number in range(rng.randint(10, 100)):
                message = b"%08d" % number * rng.choice((1, 100, 5000))
                writer.write(message)
                async with asyncio.timeout(PATIENCE):
                    if await reader.readexactly(len(message)) != message:
                        raise _FailedError("wrong")
                await asyncio.sleep(_PAUSE)
            writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                if await reader.read():
                    raise _FailedError("wrong")
        finally:
            writer.transport.abort()


Kind = Callable[[Traffic, aiohttp.ClientSession, Client, random.Random], Awaitable[None]]
KINDS: dict[str, Kind] = {
    "small": Traffic.small,
    "upload": Traffic.upload,
    "download": Traffic.download,
    "slow": Traffic.slow,
    "events": Traffic.events,
    "websocket": Traffic.websocket,
    "tcp": Traffic.tcp,
}


async def _result(doing: Awaitable[None]) -> str:
    """What became of it, in a word."""
    try:
        await doing
    except _FailedError as exc:
        return str(exc)
    except aiohttp.WSServerHandshakeError as exc:
        return str(exc.status)
    except TimeoutError:
        return HANGS
    except (ConnectionRefusedError, aiohttp.ClientConnectorError):
        return "refused"
    except (ConnectionError, aiohttp.ClientOSError):
        return "reset"
    except (asyncio.IncompleteReadError, aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError):
        return "cut"
    return "ok"


async def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status != 200:
        code = _code(await answer.read()) if answer.content_type == "application/problem+json" else ""
        raise _FailedError(f"{answer.status} {code}".strip())


def _code(problem: bytes) -> str:
    """The code of a problem, by its place in the text: it may be cut."""
    return problem.partition(b'"code":"')[2].partition(b'"')[0].decode(errors="replace")


async def _body(size: int) -> AsyncIterator[bytes]:
    for chunk in keystream(0, size):
        yield chunk


async def _compare(answer: aiohttp.ClientResponse, size: int, *, pause: float = 0.0) -> None:
    if answer.content_length != size:
        raise _FailedError("wrong")
    for expected in keystream(0, size):
        try:
            received = await answer.content.readexactly(len(expected))
        except asyncio.IncompleteReadError as exc:
            if not expected.startswith(exc.partial):
                raise _FailedError("wrong") from exc
            raise
        if received != expected:
            raise _FailedError("wrong")
        if pause:
            await asyncio.sleep(pause)


def _cut() -> NoReturn:
    raise _FailedError("cut")
