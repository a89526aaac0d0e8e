"""The devices on which the tests here work, each a context manager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.golang import build
from tests.stack.echo import Echo, echo
from tests.stack.git_http import GitServer, git_server
from tests.stack.installation import Installation
from tests.stack.nginx import Nginx, nginx
from tests.stack.postgres import Postgres, postgres
from tests.stack.process import Process

__all__ = ["GoDevice", "Workshop", "go_device", "workshop"]


@dataclass(frozen=True, slots=True)
class Workshop:
    """A device of ours with other people's servers, and the servers as they are reached without Homeport.

    files     nginx
    git       git http-backend
    echo      a WebSocket echo by the websockets library
    tcp       a TCP echo that honours half-close
    postgres  PostgreSQL on a Unix socket
    """

    agent: Process
    files: Nginx
    git: GitServer
    echo: Echo
    postgres: Postgres

    name: ClassVar[str] = "workshop"


@contextmanager
def workshop(installation: Installation, folder: Path) -> Iterator[Workshop]:
    """Start the servers and the agent; their files are in `folder`."""
    with ExitStack() as stack:
        files = stack.enter_context(nginx(folder / "nginx"))
        git = stack.enter_context(git_server(folder / "git"))
        echoing = stack.enter_context(echo(folder / "echo"))
        database = stack.enter_context(postgres())
        services = {
            "files": files.url,
            "git": f"http://{git.address}",
            "echo": f"http://{echoing.websocket}",
            "tcp": f"tcp://{echoing.tcp}",
            "postgres": f"unix://{database.socket}",
        }
        agent = stack.enter_context(installation.agent(Workshop.name, services))
        yield Workshop(agent, files, git, echoing, database)


@dataclass(frozen=True, slots=True)
class GoDevice:
    """A device that is the program tests/golang/device."""

    process: Process
    name: str
    service: str


@contextmanager
def go_device(installation: Installation, folder: Path, name: str, service: str, mode: str) -> Iterator[GoDevice]:
    """Start the device `name`; `mode` is what its streams carry, `http` or `raw`."""
    token_file = installation.session_token_file(name, service)
    arguments = ["-relay", str(installation.run["tunnel"]), "-token-file", str(token_file), "-mode", mode]
    with Process(name, [build("device"), *arguments], folder=folder, json_output=True) as process:
        process.read_json()
        yield GoDevice(process, name, service)
