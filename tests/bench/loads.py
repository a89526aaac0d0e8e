"""What is thrown at a side: bounded in count and time, and cheaper than what it measures."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.golang import build
from tests.stack.process import Process
from tests.stack.tools import tool

__all__ = ["Bulk", "Paced", "Requests", "Tunnels", "bulk", "paced", "requests", "start_bulk", "tunnels"]

_SCRIPT = Path(__file__).with_name("wrk.lua")


class Requests(msgspec.Struct, frozen=True):
    """What wrk counted."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int


class Bulk(msgspec.Struct, frozen=True):
    """One stream of bytes, one or more transfers."""

    bytes: int
    seconds: float
    transfers: int


class Paced(msgspec.Struct, frozen=True):
    """Requests at a fixed rate; a latency counts from the moment at which the request was due."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class Tunnels(msgspec.Struct, frozen=True):
    """Tunnels opened, and those lost while they were held."""

    opened: int
    seconds: float
    lost: int


def requests(url: str, token_file: Path, *, connections: int, seconds: float, close: bool = False) -> Requests:
    """wrk with one thread.

    Args:
        close: ask for `Connection: close` at each request.
    """
    environment = {**os.environ, "BENCH_TOKEN": token_file.read_text().strip()}
    if close:
        environment["BENCH_CLOSE"] = "1"
    command = [tool("wrk", target="bench"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    output = _run([*command, "-s", str(_SCRIPT), url], environment)
    return msgspec.json.decode(output.splitlines()[-1], type=Requests)


def bulk(url: str, token_file: Path, *, method: str, size: int) -> Bulk:
    """One transfer of `size` bytes."""
    return msgspec.json.decode(_run(_bulk_command(url, token_file, method, size), None), type=Bulk)


@contextmanager
def start_bulk(url: str, token_file: Path, *, size: int, seconds: float, folder: Path) -> Iterator[Process]:
    """Downloads of `size` bytes, one after the other, until `seconds` have passed; its JSON line is a `Bulk`."""
    command = [*_bulk_command(url, token_file, "GET", size), "-seconds", str(seconds)]
    with Process("bulk", command, folder=folder, json_output=True) as process:
        yield process


def _bulk_command(url: str, token_file: Path, method: str, size: int) -> list[str]:
    arguments = ["-url", url, "-token-file", str(token_file), "-method", method, "-bytes", str(size)]
    return [str(build("loader")), "bulk", *arguments]


def paced(url: str, token_file: Path, *, rate: float, connections: int, seconds: float) -> Paced:
    """`rate` requests a second over `connections` keep-alive connections."""
    arguments = ["-url", url, "-token-file", str(token_file), "-rate", str(rate)]
    command = [str(build("loader")), "paced", *arguments, "-connections", str(connections), "-seconds", str(seconds)]
    return msgspec.json.decode(_run(command, None), type=Paced)


@contextmanager
def tunnels(url: str, tokens: Path, *, folder: Path) -> Iterator[tuple[Process, Tunnels]]:
    """A tunnel for each line of `tokens`, held as long as the block lasts; end its input to get the last figures."""
    command = [str(build("loader")), "tunnels", "-relay", url, "-tokens", str(tokens)]
    with Process("tunnels", command, folder=folder, json_output=True) as process:
        yield process, msgspec.convert(process.read_json(), Tunnels)


def _run(command: list[str], environment: dict[str, str] | None) -> str:
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} failed: {json.dumps(result.stderr[-2000:])}")
    return result.stdout
