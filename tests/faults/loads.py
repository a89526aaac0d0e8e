"""What clients do in a cell of the matrix, each load on one connection of its own, checked byte for byte.

A load says that it is `under_way`, waits where it can until the fault is in force (`harmed`), goes on, and says what
became of it, in the words of the table:

    ok            all of it, unharmed
    502 CODE      the gateway answered with that status and code
    cut           the connection was reset, or ended before what was promised had come: HTTP and WebSocket notice
    short         raw TCP ended in order before its end: bare bytes cannot tell
    silent        nothing came for `patience`
    wrong         bytes that nobody sent

`idle` and `small` go on after a failure, as clients do, until the device serves them again; they give all words but
`ok`, and fail the cell if that does not come.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from homeport.demo.keystream import keystream
from tests.faults.chaos import Address
from tests.faults.matrix import Load
from tests.faults.service import END, FIRST, TICK, TRANSFER, small_text

__all__ = ["LOADS", "Clicks", "Journey"]

AFTER = 10
"""Requests and messages after the fault is in force."""
RECOVERY = 45.0
"""Seconds in which a device must serve again."""


class CutError(Exception):
    """See the module."""


class RefusedError(Exception):
    """The gateway answered with a problem, or with what is none of its answers."""


@dataclass(slots=True, kw_only=True)
class Journey:
    """One load's way to its service.

    Args:
        address: of the gateway, or of the proxy before it.
        web: path of the HTTP service through the gateway.
        tcp: path of the TCP service through the gateway.
        authorization: the header's value.
        quiet: seconds that `idle` is idle.
        patience: seconds without an answer after which the client gives up.
    """

    address: Address
    web: str
    tcp: str
    authorization: str
    quiet: float
    patience: float
    under_way: asyncio.Event = field(default_factory=asyncio.Event)
    harmed: asyncio.Event
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """The service has the first bytes of an upload."""


class Connection:
    """HTTP/1.1, one request at a time."""

    def __init__(self, journey: Journey, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._journey = journey
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, journey: Journey) -> Connection:
        try:
            return cls(journey, *await asyncio.open_connection(*journey.address, limit=1 << 20))
        except OSError as exc:
            raise CutError from exc

    def ask(self, method: str, path: str, fields: Mapping[str, str] | None = None) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: gateway", f"Authorization: {self._journey.authorization}"]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())

    async def head(self, expected: int = 200) -> dict[str, str]:
        """The fields of a response with that status.

        Raises:
            RefusedError: it has another.
        """
        head = await self.until(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}
        if status.split(" ")[1:2] == [str(expected)]:
            return fields
        length = fields.get("content-length", "")
        body = await self.exactly(int(length)) if length.isdecimal() else b""
        raise RefusedError(_problem(" ".join(status.split(" ")[1:2]), body))

    async def exactly(self, size: int) -> bytes:
        return await _cut_if_ended(self.reader.readexactly(size))

    async def until(self, mark: bytes) -> bytes:
        return await _cut_if_ended(self.reader.readuntil(mark))

    async def some(self) -> bytes:
        return await _cut_if_ended(self.reader.read(64 * 1024))

    def close(self) -> None:
        self.writer.close()


async def _cut_if_ended(reading: Coroutine[None, None, bytes]) -> bytes:
    try:
        return await reading
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
        raise CutError from exc


def _problem(status: str, body: bytes) -> str:
    with suppress(ValueError, AttributeError):
        return f"{status} {json.loads(body).get('code', '?')}"
    return f"{status} ?"


async def _word(what: Coroutine[None, None, str], patience: float) -> str:
    try:
        async with asyncio.timeout(patience):
            return await what
    except TimeoutError:
        return "silent"
    except (CutError, ConnectionError):
        return "cut"
    except RefusedError as exc:
        return str(exc)


async def _fetch_small(connection: Connection, path: str, number: int) -> str:
    """One small request."""
    connection.ask("GET", f"{path}/small/{number}")
    fields = await connection.head()
    length = fields.get("content-length", "")
    if not length.isdecimal():
        return "wrong"
    body = await connection.exactly(int(length))
    return "ok" if body == small_text(number) else "wrong"


class Clicks:
    """Small requests one after the other, each on the last one's connection if that is left."""

    def __init__(self, journey: Journey) -> None:
        self._journey = journey
        self._connection: Connection | None = None
        self.number = 0
        self.words: set[str] = set()

    async def click(self) -> str:
        self.number += 1
        word = await _word(self._request(), self._journey.patience)
        self.words.add(word)
        if word != "ok":
            self.close()
        await asyncio.sleep(TICK / 2)
        return word

    async def _request(self) -> str:
        if self._connection is None:
            self._connection = await Connection.open(self._journey)
        return await _fetch_small(self._connection, self._journey.web, self.number)

    async def until_well(self, times: int) -> frozenset[str]:
        """Go on until so many in a row are answered."""
        good = 0
        try:
            async with asyncio.timeout(RECOVERY):
                while good < times:
                    good = good + 1 if await self.click() == "ok" else 0
        except TimeoutError:
            self.words.add("never again")
        finally:
            self.close()
        return frozenset(self.words - {"ok"})

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def _idle(journey: Journey) -> frozenset[str]:
    clicks = Clicks(journey)
    await clicks.click()
    journey.under_way.set()
    await journey.harmed.wait()
    await asyncio.sleep(journey.quiet)
    return await clicks.until_well(3)


async def _small(journey: Journey) -> frozenset[str]:
    clicks = Clicks(journey)
    while not journey.harmed.is_set():
        await clicks.click()
        if clicks.number == 3:
            journey.under_way.set()
    return await clicks.until_well(AFTER)


async def _with_connection(
    journey: Journey, use: Callable[[Journey, Connection], Coroutine[None, None, str]]
) -> frozenset[str]:
    async def run() -> str:
        connection = await Connection.open(journey)
        try:
            return await use(journey, connection)
        finally:
            connection.close()

    return frozenset({await _word(run(), journey.patience)} - {"ok"})


async def _upload(journey: Journey, connection: Connection) -> str:
    connection.ask("POST", f"{journey.web}/upload", {"Content-Length": str(TRANSFER)})
    sending = asyncio.create_task(_send_body(journey, connection.writer))
    try:
        fields = await connection.head()
        answer = await connection.exactly(int(fields["content-length"]))
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    return "ok" if answer == _DIGEST else "wrong"


async def _send_body(journey: Journey, writer: asyncio.StreamWriter) -> None:
    sent = 0
    for chunk in keystream(0, TRANSFER):
        if sent >= FIRST:
            await journey.arrived.wait()
            journey.under_way.set()
            await journey.harmed.wait()
        writer.write(chunk)
        await writer.drain()
        sent += len(chunk)


async def _download(journey: Journey, connection: Connection) -> str:
    connection.ask("GET", f"{journey.web}/download")
    fields = await connection.head()
    left = int(fields["content-length"])
    if left != TRANSFER:
        return "wrong"
    expected, held = keystream(0, TRANSFER), b""
    while left:
        data = await connection.some()
        if not data:
            raise CutError
        left -= len(data)
        while len(held) < len(data):
            held += next(expected, b"\0" * len(data))
        if not held.startswith(data):
            return "wrong"
        held = held[len(data) :]
        if TRANSFER - left >= FIRST and not journey.under_way.is_set():
            journey.under_way.set()
            await journey.harmed.wait()
    return "ok"


async def _events(journey: Journey, connection: Connection) -> str:
    connection.ask("GET", f"{journey.web}/events")
    await connection.head()
    for number, expected in enumerate(_event_texts()):
        line = await connection.until(b"\r\n")
        chunk = await connection.until(b"\r\n")
        if chunk == b"data: end of %d\n\n\r\n" % number:
            return "ok" if await connection.exactly(5) == b"0\r\n\r\n" else "wrong"
        if line != b"%x\r\n" % len(expected) or chunk != expected + b"\r\n":
            return "wrong"
        if number == 2:
            journey.under_way.set()
    raise AssertionError


def _event_texts() -> Iterator[bytes]:
    number = 0
    while True:
        yield b"data: %d\n\n" % number
        number += 1


async def _websocket(journey: Journey) -> frozenset[str]:
    return frozenset({await _word(_chat(journey), journey.patience)} - {"ok"})


async def _chat(journey: Journey) -> str:
    host, port = journey.address
    options: dict[str, Any] = {"ping_interval": None, "compression": None, "proxy": None, "close_timeout": 1}
    try:
        async with connect(
            f"ws://{host}:{port}{journey.web}/ws",
            additional_headers={"Authorization": journey.authorization},
            open_timeout=journey.patience,
            **options,
        ) as connection:
            number = after = 0
            while after < AFTER:
                message = (b"%d " % number) * 100
                await connection.send(message)
                if await connection.recv() != message:
                    return "wrong"
                number += 1
                after += journey.harmed.is_set()
                if number == 3:
                    journey.under_way.set()
                await asyncio.sleep(TICK)
    except InvalidStatus as exc:
        raise RefusedError(_problem(str(exc.response.status_code), bytes(exc.response.body or b""))) from exc
    except (ConnectionClosed, InvalidHandshake, InvalidMessage) as exc:
        raise CutError from exc
    return "ok" if connection.close_code == 1000 else "cut"


async def _tcp(journey: Journey, connection: Connection) -> str:
    connection.ask("GET", journey.tcp, {"Connection": "Upgrade", "Upgrade": "homeport-tcp"})
    await connection.head(101)
    number = after = 0
    while after < AFTER:
        block = (b"%d " % number) * 100
        connection.writer.write(block)
        if (word := await _echoed(connection, block)) is not None:
            return word
        number += 1
        after += journey.harmed.is_set()
        if number == 3:
            journey.under_way.set()
        await asyncio.sleep(TICK)
    connection.writer.write(END)
    connection.writer.write_eof()
    if (word := await _echoed(connection, END)) is not None:
        return word
    return "wrong" if await connection.some() else "ok"


async def _echoed(connection: Connection, block: bytes) -> str | None:
    received = b""
    while len(received) < len(block):
        data = await connection.some()
        if not data:
            return "short"
        received += data
        if not block.startswith(received):
            return "wrong"
    return None


_DIGEST = hashlib.sha256(b"".join(keystream(0, TRANSFER))).hexdigest().encode()

LOADS: Mapping[Load, Callable[[Journey], Coroutine[None, None, frozenset[str]]]] = {
    Load.IDLE: _idle,
    Load.SMALL: _small,
    Load.UPLOAD: lambda journey: _with_connection(journey, _upload),
    Load.DOWNLOAD: lambda journey: _with_connection(journey, _download),
    Load.EVENTS: lambda journey: _with_connection(journey, _events),
    Load.WEBSOCKET: _websocket,
    Load.TCP: lambda journey: _with_connection(journey, _tcp),
}
"""Each gives the words that were not `ok`."""
