"""`/api/events`: server-sent events (HTML Standard section 9.2) of one's teams."""

from __future__ import annotations

from aiohttp import web

from api_server.auth.interfaces import Action
from api_server.events.errors import TooManyFollowersError
from api_server.events.hub import EventHub, Follower
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller, Route, TeamQuery

__all__ = ["EventEndpoints"]

_MAX_EVENT_ID = 256
"""Characters of a `Last-Event-ID`."""

_GREETING = b"retry: 2000\n\n"
"""Milliseconds until a browser that lost the stream asks for it again."""

_HEARTBEAT = b":\n\n"
"""A comment: it says nothing, and shows that the connection lives to both ends and to all that lies between."""


class EventEndpoints:
    """Serves `/api/events`.

    Args:
        hub: the events.
        heartbeat: seconds of silence after which a comment is sent.
    """

    def __init__(self, hub: EventHub, *, heartbeat: float = 15.0) -> None:
        self._hub = hub
        self._heartbeat = heartbeat

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(
                method="GET",
                path="/api/events",
                handler=self.follow_events,
                action=Action.EVENTS_READ,
                every_team=True,
                media_type="text/event-stream",
                errors=(TooManyFollowersError,),
            )
        ]

    async def follow_events(
        self,
        caller: Caller,
        query: TeamQuery,  # noqa: ARG002  # declares ?team=
        request: web.Request,
    ) -> web.StreamResponse:
        """Follow what happens in your teams, as server-sent events.

        `session.online`, `session.offline` and `session.updated`, each with the session as it was then; and what was
        changed, each with the id of its `subject`. Send
        `Last-Event-ID` to go on where a lost stream ended. On `reset` some events were lost: read the list of sessions
        anew. A client that does not keep up is cut off.
        """
        last_event_id = request.headers.get("Last-Event-ID") or None
        if last_event_id is not None and len(last_event_id) > _MAX_EVENT_ID:
            raise ValidationFailedError(f"Last-Event-ID has at most {_MAX_EVENT_ID} characters")
        with self._hub.follow(caller.teams, last_event_id, on_cut=lambda: _abort(request)) as follower:
            response = web.StreamResponse(
                headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
            )
            await response.prepare(request)
            await self._send(follower, response)
            return response

    async def _send(self, follower: Follower, response: web.StreamResponse) -> None:
        try:
            await response.write(_GREETING)
            while (frames := await follower.wait(self._heartbeat)) is not None:
                await response.write(frames or _HEARTBEAT)
            await response.write_eof()
        except ConnectionError:
            return  # the client went away, or was cut off


def _abort(request: web.Request) -> None:
    """Drop the connection with what is still queued for it: the client does not take it anyway."""
    if request.transport is not None:
        request.transport.abort()
