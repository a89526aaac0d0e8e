"""The agent against a relay that shares no code with it: Go, hashicorp/yamux over gorilla/websocket."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.edge_agent.running import TOKEN, running_agent
from tests.edge_agent.services import echo, refusing_port, reset, serve
from tests.golang import build

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """On the real clock: the other side is another process."""
    return "trio", {}


@pytest.fixture(scope="module")
def relay_side() -> Path:
    return build("relay-side")


async def http(stream: trio.SocketStream) -> None:
    """A keep-alive server of `GET /bytes/{n}`."""
    received = bytearray()
    while True:
        while b"\r\n\r\n" not in received:
            data = await stream.receive_some()
            if not data:
                return
            received += data
        head, _, rest = bytes(received).partition(b"\r\n\r\n")
        received = bytearray(rest)
        size = int(head.split(b" ")[1].removeprefix(b"/bytes/"))
        body = random.Random(size).randbytes(size)
        digest = hashlib.sha256(body).hexdigest()
        await stream.send_all(
            f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nX-Sha256: {digest}\r\n\r\n".encode() + body
        )


async def digest(stream: trio.SocketStream) -> None:
    sha = hashlib.sha256()
    async for data in stream:
        sha.update(data)
    await stream.send_all(sha.hexdigest().encode())


async def cut(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    reset(stream)


@pytest.mark.parametrize("scenario", ["http", "many", "bulk", "halfclose", "reset", "refused"])
async def test_scenario(tmp_path: Path, relay_side: Path, scenario: str) -> None:
    broken = 0

    async def watched_echo(stream: trio.SocketStream) -> None:
        nonlocal broken
        try:
            await echo(stream)
        except trio.BrokenResourceError:
            broken += 1

    async with (
        trio.open_nursery() as nursery,
        serve(http) as web,
        serve(watched_echo) as echoing,
        serve(digest) as digesting,
        serve(cut) as cutting,
    ):
        command = [str(relay_side), "-scenario", scenario, "-token", TOKEN]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            url = (await process.stdout.receive_some()).decode().strip()
            async with running_agent(
                tmp_path,
                url,
                f"web=http://127.0.0.1:{web}?health=off",
                f"echo=tcp://127.0.0.1:{echoing}?health=off",
                f"digest=tcp://127.0.0.1:{digesting}?health=off",
                f"reset=tcp://127.0.0.1:{cutting}?health=off",
                f"down=tcp://127.0.0.1:{refusing_port()}?health=off",
            ):
                said = b"".join([data async for data in process.stderr])
                code = await process.wait()
        finally:
            process.kill()
            await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()
        assert code == 0, said.decode()
        assert broken == (1 if scenario == "reset" else 0)
        nursery.cancel_scope.cancel()
