"""A MariaDB server of its own, on a Unix socket only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stack.process import Process
from tests.stack.tools import tool

__all__ = ["MariaDB", "mariadb"]


@dataclass(frozen=True, slots=True)
class MariaDB:
    """A running server; the user `root` needs no password."""

    process: Process
    socket: Path


@contextmanager
def mariadb() -> Iterator[MariaDB]:
    """Initialise and start a server.

    Its folder is under /tmp: the path of a Unix socket has at most 107 bytes. It reads no settings of the machine. As
    root it runs as root, because of Debian only the packages are needed that start no server, and they make no user.
    """
    user = pwd.getpwuid(os.geteuid()).pw_name
    home = Path(tempfile.mkdtemp(prefix="homeport-mariadb-", dir="/tmp"))
    try:
        initialise = [tool("mariadb-install-db"), "--no-defaults", f"--user={user}", f"--datadir={home / 'data'}"]
        # --rpm: do not hand files of the package to another user.
        initialise += ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--rpm"]
        with Process("mariadb-install-db", initialise, folder=home) as process:
            if process.wait(seconds=120) != 0:
                raise RuntimeError(f"mariadb-install-db failed:\n{process.log.read_text()}")
        socket = home / "socket"
        options = {
            "user": user,
            "datadir": home / "data",
            "socket": socket,
            "pid-file": home / "pid",
            "innodb-flush-log-at-trx-commit": 0,
            "innodb-flush-method": "nosync",
            "innodb-doublewrite": 0,
            "innodb-buffer-pool-size": "32M",
            "innodb-log-file-size": "16M",
            "performance-schema": 0,
            "max-connections": 100,
        }
        command = [tool("mariadbd"), "--no-defaults", "--skip-networking", "--skip-log-bin"]
        command += [f"--{name}={value}" for name, value in options.items()]
        with Process("mariadbd", command, folder=home) as process:
            process.wait_until(lambda: _accepts(socket), "accepting connections", seconds=60)
            yield MariaDB(process, socket)
    finally:
        shutil.rmtree(home)


def _accepts(socket: Path) -> bool:
    if not socket.exists():
        return False
    probe = [tool("mariadb"), "--no-defaults", f"--socket={socket}", "--user=root", "--execute=SELECT 1"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0
