"""An S3 server: moto's, in a thread, one request at a time, so that its conditions hold."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

__all__ = ["Manners", "S3Server", "s3_server"]


@dataclass(slots=True)
class Manners:
    """How a server behaves; tests change it while it runs."""

    ignores: frozenset[str] = frozenset()
    """Headers of conditions that it does not look at, as some servers do not: `If-Match`, `If-None-Match`."""
    refuses: bool = False
    """Every request is answered 403."""
    fails_from: int | None = None
    """From how many writes on it answers 503: a transfer that is cut in the middle."""
    writes: int = 0
    seen: list[str] = field(default_factory=list)
    """Method, path and headers of each request."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server."""

    url: str
    manners: Manners


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run one."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    manners = Manners()
    app = _mannered(DomainDispatcherApplication(create_backend_app), manners)
    server = make_server("127.0.0.1", 0, app, threaded=False, request_handler=_Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), name="s3", daemon=True)
    thread.start()
    try:
        yield S3Server(f"http://127.0.0.1:{server.server_port}", manners)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(WSGIRequestHandler):
    def log_request(self, *_arguments: Any) -> None:
        """Silent."""


def _mannered(app: Any, manners: Manners) -> Callable[..., Iterable[bytes]]:
    def call(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        manners.seen.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ.get('HTTP_AUTHORIZATION')}")
        for header in manners.ignores:
            environ.pop("HTTP_" + header.upper().replace("-", "_"), None)
        if manners.refuses:
            start("403 Forbidden", [("Content-Length", "0")])
            return [b""]
        if environ["REQUEST_METHOD"] in ("PUT", "DELETE"):
            manners.writes += 1
            if manners.fails_from is not None and manners.writes > manners.fails_from:
                start("503 Service Unavailable", [("Content-Length", "0")])
                return [b""]
        result: Iterable[bytes] = app(environ, start)
        return result

    return call
