"""`homeport forward`: a TCP service of a device on a local port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.stack.homeport import command
from tests.stack.installation import Installation
from tests.stack.process import Process

__all__ = ["Forward", "forward"]


@dataclass(frozen=True, slots=True)
class Forward:
    """The local end."""

    process: Process
    host: str
    port: int


@contextmanager
def forward(installation: Installation, device: str, service: str) -> Iterator[Forward]:
    """Bring a service to a free port of 127.0.0.1."""
    target = f"{installation.team}/{device}/{service}"
    arguments = ["forward", target, "--data-dir", str(installation.folder), "--listen", "127.0.0.1:0", "--json"]
    name = f"forward-{device}-{service}"
    with Process(name, [command(), *arguments], folder=installation.folder, json_output=True) as process:
        (address,) = process.read_json()["listen"]
        host, _, port = address.rpartition(":")
        yield Forward(process, host, int(port))
