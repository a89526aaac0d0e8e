"""`GET /internal/events`: the event ring as server-sent events (HTML Living Standard, section 9.2).

A reader that comes back with `Last-Event-ID` gets what it missed. One that missed more than the ring holds, or that
comes from another relay process, gets the event `reset`: read the session list anew, then go on from here.

Who asks with `?notices=true` is also sent what API servers tell one another, as the event `notice`. To others a notice
is an id alone, which moves their position and is no event: an API server from before there were notices would take one
for a session that it cannot read.
"""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from remote_proxy.errors import EventsLostError
from remote_proxy.events import EventRing, Notice, RelayEvent

__all__ = ["serve_events"]

_BATCH = 100
"""Events in one write."""
_KEEP_ALIVE = 5.0
"""Seconds without an event after which a comment is sent, so that both ends notice a dead connection. An API server
trusts what it remembers for 10 seconds after it last heard anything."""
_STUCK = 30.0
"""Seconds that one write may wait for a reader that does not read."""


async def serve_events(request: web.Request, ring: EventRing) -> web.StreamResponse:
    """Write events until the reader goes, stops reading, or the ring is closed."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    encode = _encode if request.query.get("notices") == "true" else _encode_without_notices
    woken = asyncio.Event()
    unlisten = ring.listen(woken.set)
    try:
        position, greeting = _start(ring, request.headers.get("Last-Event-ID"))
        await _write(response, greeting)
        while True:
            woken.clear()
            try:
                events = ring.after(position, limit=_BATCH)
            except EventsLostError:
                # It read more slowly than events came. The ring is the bound; there is no queue of its own to grow.
                position = ring.last
                await _write(response, _reset(ring.id_of(position)))
                continue
            if events:
                position += len(events)
                await _write(response, b"".join(map(encode, events)))
            elif ring.closed:
                return response
            else:
                try:
                    async with asyncio.timeout(_KEEP_ALIVE):
                        await woken.wait()
                except TimeoutError:
                    await _write(response, b":\n\n")
    except ConnectionResetError:
        return response  # the reader went away, as readers do; it resumes elsewhere or later
    finally:
        unlisten()


def _start(ring: EventRing, last_event_id: str | None) -> tuple[int, bytes]:
    """Where a reader begins, and what it is told first."""
    if last_event_id is None:
        # An id alone sets the reader's last id without an event: it can resume from here even if nothing ever happens.
        return ring.last, f"id: {ring.id_of(ring.last)}\n\n".encode()
    try:
        position = ring.position(last_event_id)
        ring.after(position, limit=1)
    except EventsLostError:
        return ring.last, _reset(ring.id_of(ring.last))
    return position, b":\n\n"


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(_STUCK):
        await response.write(data)


def _encode(event: RelayEvent) -> bytes:
    kind = "notice" if isinstance(event, Notice) else event.type
    return f"id: {event.id}\nevent: {kind}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n"


def _encode_without_notices(event: RelayEvent) -> bytes:
    return f"id: {event.id}\n\n".encode() if isinstance(event, Notice) else _encode(event)


def _reset(event_id: str) -> bytes:
    return f'id: {event_id}\nevent: reset\ndata: {{"id":"{event_id}","type":"reset"}}\n\n'.encode()
