"""Raw HTTP against a port, for what no client library would send."""

from __future__ import annotations

import asyncio
import json
from typing import Any

__all__ = ["exchange", "exchange_bytes", "read_to_end"]


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other side ends the connection, in whichever way."""
    received = bytearray()
    try:
        while chunk := await reader.read(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return bytes(received)


async def exchange_bytes(port: int, request: bytes) -> bytes:
    """Send bytes, and read until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await read_to_end(reader)
    finally:
        writer.close()


async def exchange(port: int, request: bytes) -> tuple[int, dict[str, Any]]:
    """Send bytes; read one answer, whose body is JSON."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        (length,) = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
        return int(lines[0].split()[1]), json.loads(await reader.readexactly(length))
    finally:
        writer.close()
