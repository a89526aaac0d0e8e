"""The answers of the demo service.

    GET  /               a page that explains what one sees, with the files it needs beside it
    GET  /clock          server-sent events, one a second
    GET  /echo           a WebSocket that sends back what it gets
    GET  /bytes/{n}      n pseudo-random bytes, the same each time; ranges work (RFC 9110 section 14)
    POST /sha256         the hex digest of the body, whatever its size
    *    /headers        the request as it arrived, as JSON
    *    /status/{code}  an answer with that status
    GET  /slow/{seconds} an answer after so many seconds

Everything is streamed: memory does not grow with `n` or with the body. URLs in the page are relative, because the
gateway serves it under a prefix that the device does not know.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.resources import files

from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from common.clock import Clock
from homeport.demo.keystream import keystream

__all__ = ["DemoService"]

_MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes in one WebSocket message; an echo has to hold it whole."""

_PAGE = {"": "text/html", "style.css": "text/css", "demo.js": "text/javascript", "icon.svg": "image/svg+xml"}

# The page shows that it needs nothing from elsewhere by forbidding it. `connect-src 'self'` covers the WebSocket.
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class DemoService:
    """The demo service as an aiohttp application.

    Args:
        clock: what time `/clock` tells.
        tick: seconds between two events of `/clock`.
    """

    def __init__(self, clock: Clock, *, tick: float = 1.0) -> None:
        self._clock = clock
        self._tick = tick
        self._stopping = asyncio.Event()
        self._sockets: set[web.WebSocketResponse] = set()
        folder = files("homeport.demo") / "page"
        self._page = {name: (folder / (name or "index.html")).read_bytes() for name in _PAGE}

    def application(self) -> web.Application:
        """The routes. On shutdown, clocks end and WebSockets are closed with 1001, so that nothing waits for them."""
        application = web.Application()
        application.add_routes(
            [
                *(web.get(f"/{name}", self._file) for name in _PAGE),
                web.get("/clock", self._tell_time, allow_head=False),
                web.get("/echo", self._echo, allow_head=False),
                web.get(r"/bytes/{n:\d{1,18}}", self._bytes),
                web.post("/sha256", self._sha256),
                web.route(hdrs.METH_ANY, "/headers", self._headers),
                web.route(hdrs.METH_ANY, r"/status/{code:\d{3}}", self._status),
                web.get(r"/slow/{seconds:\d{1,9}(?:\.\d{1,6})?}", self._slow),
            ]
        )
        application.on_shutdown.append(self._stop)
        return application

    async def _stop(self, _application: web.Application) -> None:
        self._stopping.set()
        for socket in tuple(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the demo service is stopping")

    async def _file(self, request: web.Request) -> web.Response:
        name = request.path.lstrip("/")
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        return web.Response(body=self._page[name], content_type=_PAGE[name], charset="utf-8", headers=headers)

    async def _tell_time(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        count = 0
        while not self._stopping.is_set():
            now = datetime.fromtimestamp(self._clock.wall(), UTC).isoformat(timespec="milliseconds")
            await response.write(f"id: {count}\ndata: {json.dumps({'count': count, 'time': now})}\n\n".encode())
            count += 1
            try:
                async with asyncio.timeout(self._tick):
                    await self._stopping.wait()
            except TimeoutError:
                continue
        return response

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=_MAX_MESSAGE)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await socket.send_str(message.data)
                elif message.type is WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
        finally:
            self._sockets.discard(socket)
        return socket

    async def _bytes(self, request: web.Request) -> web.StreamResponse:
        size = int(request.match_info["n"])
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", "ETag": f'"{size}"'}
        span = _requested_range(request, size)
        if span is None:
            raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
        start, stop = span
        partial = span != (0, size)
        if partial:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        response = web.StreamResponse(status=206 if partial else 200, headers=headers)
        response.content_length = stop - start
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            for chunk in keystream(start, stop):
                await response.write(chunk)
        return response

    async def _sha256(self, request: web.Request) -> web.Response:
        digest = hashlib.sha256()
        async for chunk in request.content.iter_any():
            digest.update(chunk)
        return web.Response(text=digest.hexdigest())

    async def _headers(self, request: web.Request) -> web.Response:
        version = request.version
        raw = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        joined: dict[str, str] = {}
        for name, value in raw:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        arrived = {
            "method": request.method,
            "path": request.raw_path,
            "http_version": f"{version.major}.{version.minor}",
            "headers": joined,
        }
        # For people: an indented object, and the pairs as they came on one line below it.
        text = f'{json.dumps(arrived, indent=2)[:-2]},\n  "raw_headers": {json.dumps(raw)}\n}}\n'
        return web.Response(text=text, content_type="application/json")

    async def _status(self, request: web.Request) -> web.Response:
        code = int(request.match_info["code"])
        if not 200 <= code <= 599:
            raise web.HTTPBadRequest(text="only a final status, 200 to 599, can be asked for\n")
        try:
            phrase = HTTPStatus(code).phrase
        except ValueError:
            phrase = "Unassigned"
        if code in (204, 304):  # these have no content, RFC 9110 sections 15.3.5 and 15.4.5
            return web.Response(status=code)
        return web.Response(status=code, reason=phrase, text=f"{code} {phrase}\n")

    async def _slow(self, request: web.Request) -> web.Response:
        seconds = request.match_info["seconds"]
        await asyncio.sleep(float(seconds))
        return web.Response(text=f"after {seconds} s\n")


def _requested_range(request: web.Request, size: int) -> tuple[int, int] | None:
    """First and one past the last byte that are asked for; None when that range lies outside.

    A `Range` that cannot be read, or of several ranges, is ignored, as RFC 9110 section 14.2 allows.
    """
    try:
        asked = request.http_range
    except ValueError:
        return 0, size
    if asked.start is None and asked.stop is None:
        return 0, size
    if asked.start is not None and asked.start >= size:
        return None
    start, stop, _ = asked.indices(size)
    return (start, stop) if start < stop else None
