"""A provider of tokens, over real HTTP, that does whatever a real one has ever done.

    with token_provider() as provider:              a thread of this process, on a free port
        provider.mode = "error_in_200"
        ... f"{provider.url}/token?appid=..." ...
        provider.calls, provider.alive

Each call that reaches it is counted. A new token of an application ends the one before, at once or after `overlap`.

    ok               {"access_token", "expires_in"}
    slow             the same after `delay` seconds
    error_in_200     {"errcode": 40001, "errmsg": ...} with status 200
    refused          400 {"error": "invalid_client"}
    limited          429 with Retry-After
    broken           500
    hang             never answers
    cut              half an answer, and the connection is closed
    huge             an answer without an end
    no_life          no expires_in
    wrong_life       an expires_in that is none
    redirect         302 to somewhere else
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Call", "TokenProvider", "token_provider"]


@dataclass(frozen=True)
class Call:
    """A request that came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class TokenProvider:
    """What it does, and what came."""

    url: str = ""
    mode: str = "ok"
    delay: float = 0.0
    """Seconds before the answer, in every mode."""
    life: Any = 7200
    """What it says as `expires_in`."""
    retry_after: str = "7"
    overlap: float = 0.0
    """Seconds that the token before lives on."""
    secret: str = "hunter2-secret"
    """What it takes for the secret of an application, where a call shows one; anything else is refused."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Answers wait for it; it is open unless a test clears it."""
    worthless: bool = False
    """No token is good for anything."""
    calls: list[Call] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    answered: threading.Event = field(default_factory=threading.Event)
    """An answer was written."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ends: dict[str, float] = field(default_factory=dict)
    _number: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def alive(self, token: str) -> bool:
        """Whether a token is good for anything."""
        return not self.worthless and self._ends.get(token, 0.0) > time.monotonic()

    def new_token(self) -> str:
        """The next token; the one before ends."""
        with self._lock:
            self._number += 1
            ends = time.monotonic() + self.overlap
            self._ends = {each: min(at, ends) for each, at in self._ends.items()}
            token = f"token-{self._number}"
            self._ends[token] = time.monotonic() + 86400
            return token

    def came(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)

    def went(self) -> None:
        with self._lock:
            self.under_way -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: TokenProvider

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the tests count."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        call = Call(self.command, parts.path, query, {k.lower(): v for k, v in self.headers.items()}, body)
        self.close_connection = True
        self.provider.came(call)
        try:
            self._answer(call)
        except OSError:
            pass
        finally:
            self.provider.went()

    do_POST = do_GET  # noqa: N815

    def _answer(self, call: Call) -> None:
        provider = self.provider
        mode = provider.mode
        provider.stopping.wait(provider.delay)
        provider.gate.wait(60)
        shown = call.query.get("secret") or call.query.get("corpsecret")
        if shown is not None and shown != provider.secret:
            self._json(200, {"errcode": 40001, "errmsg": f"invalid credential {shown}"})
            return
        match mode:
            case "ok":
                said = {"access_token": provider.new_token(), "expires_in": provider.life}
                self._json(200, {"errcode": 0, "errmsg": "ok", **said} if "corpid" in call.query else said)
            case "error_in_200":
                self._json(200, {"errcode": 45009, "errmsg": "reach max api daily quota limit"})
            case "refused":
                self._json(400, {"error": "invalid_client", "error_description": f"no such secret {provider.secret}"})
            case "limited":
                self._json(429, {"error": "slow_down"}, {"Retry-After": provider.retry_after})
            case "broken":
                self._json(500, {"error": "server_error"})
            case "hang":
                provider.stopping.wait(60)
            case "cut":
                provider.new_token()
                self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"access_token": "tok')
            case "huge":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
                while not provider.stopping.is_set():
                    self.wfile.write(b"x" * 65536)
            case "no_life":
                self._json(200, {"access_token": provider.new_token()})
            case "wrong_life":
                self._json(200, {"access_token": provider.new_token(), "expires_in": provider.life})
            case "redirect":
                self._json(302, {}, {"Location": f"{provider.url}/elsewhere"})
            case "text":
                self._send(200, provider.new_token().encode() + b"\n", {"Content-Type": "text/plain"})
        provider.answered.set()

    def _json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away: that is what some tests do."""


@contextmanager
def token_provider() -> Iterator[TokenProvider]:
    """A provider that runs until the block is left."""
    provider = TokenProvider()
    provider.gate.set()
    handler = type("Handler", (_Handler,), {"provider": provider})
    server = _Server(("127.0.0.1", 0), handler)
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.stopping.set()
        provider.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
