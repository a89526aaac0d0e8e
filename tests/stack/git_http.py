"""Git's smart HTTP by its own `git http-backend`, the CGI program that comes with it."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from tests.stack.tools import tool

__all__ = ["GitServer", "Manners", "git_server"]

_CHUNK = 64 * 1024


@dataclass(slots=True)
class Manners:
    """How a server behaves; tests change it while it runs."""

    password: str | None = None
    """What clients must show, by basic authentication with any name; None for nothing."""
    redirect_to: str | None = None
    """HOST:PORT that it sends clients to."""
    stalled: threading.Event = field(default_factory=threading.Event)
    """While it is set, no request is answered."""
    authorizations: list[str] = field(default_factory=list)
    """Every `Authorization` that clients have sent."""


@dataclass(frozen=True, slots=True)
class GitServer:
    """A running server; each bare repository in `folder` can be cloned and pushed to."""

    folder: Path
    address: str
    """HOST:PORT."""
    manners: Manners


@contextmanager
def git_server(folder: Path) -> Iterator[GitServer]:
    """Serve the repositories in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    manners = Manners()
    server = _Server(tool("git-http-backend"), folder, manners)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), name="git", daemon=True)
    thread.start()
    try:
        yield GitServer(folder, "{}:{}".format(*server.server_address), manners)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a request that is not answered must not hold the end up
    block_on_close = False

    def __init__(self, backend: str, folder: Path, manners: Manners) -> None:
        self.backend = backend
        self.folder = folder
        self.manners = manners
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """One request: environment and body to the program, its headers and body back (RFC 3875 sections 4 and 6)."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._run()

    def do_POST(self) -> None:
        self._run()

    def _run(self) -> None:
        manners = self.server.manners
        if manners.stalled.is_set():
            self.rfile.read()  # until the client gives up
            self.close_connection = True
            return
        given = self.headers.get("Authorization")
        if given is not None:
            manners.authorizations.append(given)
        if manners.redirect_to is not None:
            self._refuse(301, ("Location", f"http://{manners.redirect_to}{self.path}"))
            return
        if manners.password is not None and not _shows(given, manners.password):
            self._refuse(401, ("WWW-Authenticate", 'Basic realm="git"'))
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": unquote(path),
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "tests",
            "REMOTE_ADDR": self.client_address[0],
        }
        result = subprocess.run(
            [self.server.backend], env=environment, input=self._body(), stdout=subprocess.PIPE, check=True
        )
        head, _, body = result.stdout.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        self.send_response(next((int(value.split()[0]) for name, value in headers if name == "Status"), 200))
        for name, value in headers:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, header: tuple[str, str]) -> None:
        self._body()
        self.send_response(status)
        self.send_header(*header)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(parts)

    def log_message(self, *arguments: object) -> None:
        """Silent: what fails, the client says."""


def _shows(authorization: str | None, password: str) -> bool:
    """Whether it is basic authentication with that password."""
    if authorization is None or not authorization.startswith("Basic "):
        return False
    return base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")[2] == password
