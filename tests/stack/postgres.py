"""A PostgreSQL server of its own, on a Unix socket only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stack.process import Process
from tests.stack.tools import tool

__all__ = ["Postgres", "postgres"]

_PORT = 5432
"""It names the socket file, no more."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server; the superuser `postgres` needs no password."""

    process: Process
    socket: Path


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Initialise and start a server.

    It has a folder of its own under /tmp: the path of a Unix socket has at most 107 bytes, and the server refuses to
    run as root, so as root it runs as the user that Debian's package made.
    """
    binaries = tuple(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    user = "postgres" if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="homeport-pg-", dir="/tmp"))
    try:
        if user is not None:
            shutil.chown(home, user, user)
        data = home / "data"
        initialise = [tool("initdb", places=binaries), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync"]
        with Process("initdb", initialise, folder=home, user=user) as process:
            if process.wait(seconds=60) != 0:
                raise RuntimeError(f"initdb failed:\n{process.log.read_text()}")
        options = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": str(home),
            "fsync": "off",
            "max_connections": "100",
            "autovacuum": "off",
        }
        command = [tool("postgres", places=binaries), "-D", str(data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with Process("postgres", command, folder=home, user=user) as process:
            process.wait_until(lambda: _accepts(binaries, home), "accepting connections")
            yield Postgres(process, home / f".s.PGSQL.{_PORT}")
            process.signal(signal.SIGINT)  # a fast shutdown: SIGTERM would wait for clients
    finally:
        shutil.rmtree(home)


def _accepts(binaries: tuple[Path, ...], home: Path) -> bool:
    probe = [tool("pg_isready", places=binaries), "-q", "-h", str(home), "-p", str(_PORT)]
    return subprocess.run(probe, check=False).returncode == 0
