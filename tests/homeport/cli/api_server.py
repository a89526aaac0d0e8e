"""An API of a few lines, for what the real one does not do on demand: many pages, refusals, nonsense."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["Answer", "Request", "api_server", "problem", "session"]

TOKEN = "hp_0000000000000000000000000000000000000000000000000"


class Request:
    """What arrived."""

    def __init__(self, method: str, target: str, authorization: str | None, body: bytes) -> None:
        parts = urlsplit(target)
        self.method = method
        self.path = parts.path
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.authorization = authorization
        self.body: Any = json.loads(body) if body else None


class Answer:
    """What goes back."""

    def __init__(self, status: int, content: object = None, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        self.headers = headers or {}


def problem(status: int, code: str, detail: str, **headers: str) -> Answer:
    content = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
    return Answer(status, content, {name.replace("_", "-"): value for name, value in headers.items()})


@contextmanager
def api_server(serve: Callable[[Request], Answer]) -> Iterator[str]:
    """Serve in a thread; gives the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = serve(Request(self.command, self.path, self.headers.get("Authorization"), body))
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def session(number: int, **changes: object) -> dict[str, object]:
    """One item of a list of sessions."""
    item: dict[str, object] = {
        "id": f"ses_{number:032x}",
        "device": f"device-{number}",
        "device_name": f"device-{number}",
        "team": "home",
        "relay": "127.0.0.1:3800",
        "epoch": number,
        "state": "healthy",
        "connected_at": 1_000_000.0,
        "last_heartbeat": 1_000_001.0,
        "rtt_ms": 1.25,
        "streams": 2,
        "bytes_in": 1536,
        "bytes_out": 12,
        "subprotocol": "homeport.v1",
        "remote_address": "127.0.0.1:50000",
        "agent_version": "homeport-agent/0.1.0",
        "services": {"web": "healthy", "ssh": "unhealthy"},
    }
    return item | changes
