"""A Redis server of its own, on a Unix socket only. Valkey speaks the same protocol; Debian 12 has Redis."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stack.process import Process
from tests.stack.tools import tool

__all__ = ["Redis", "redis"]


@dataclass(frozen=True, slots=True)
class Redis:
    """A running server."""

    process: Process
    socket: Path

    @property
    def url(self) -> str:
        """As `directory_url` says it."""
        return f"redis+unix://{self.socket}"


@contextmanager
def redis() -> Iterator[Redis]:
    """Start a server that keeps nothing.

    Its folder is under /tmp: the path of a Unix socket has at most 107 bytes. Debian's `redis-server` is a name of
    `redis-check-rdb`, which the package without a service has, too; the program goes by the name that it is called by.
    """
    home = Path(tempfile.mkdtemp(prefix="homeport-redis-", dir="/tmp"))
    try:
        server = home / "redis-server"
        server.symlink_to(tool("redis-check-rdb"))
        path = home / "socket"
        options = {"port": 0, "unixsocket": path, "save": "", "appendonly": "no", "dir": home}
        command: list[str | Path] = [server]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        with Process("redis", command, folder=home) as process:
            process.wait_until(lambda: _accepts(path), "accepting connections")
            yield Redis(process, path)
    finally:
        shutil.rmtree(home)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
