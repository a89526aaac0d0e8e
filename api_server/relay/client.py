"""The relay's internal HTTP, as the API server calls it: sessions, revocations, events.

Bodies are msgpack. Errors come back as the classes of `common.sessions.errors`, chosen by the code in the relay's
answer, so that a caller cannot tell a relay from a store in its own process. The data path does not come through here.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import msgpack
import msgspec

from api_server.devices.interfaces import Revocation
from api_server.relay.events import EventCutter, EventPosition, Notice, NoticeItem, SessionEvent
from api_server.relay.problems import MSGPACK, error_from_answer
from common.ids import SessionId, TeamId, is_session_id
from common.secret import Secret
from common.sessions.errors import RelayUnavailableError, SessionNotFoundError, SessionStoreError
from common.sessions.interfaces import Page, Summary

__all__ = ["ProxyClient"]

_EVENTS_SILENCE: Final = 60.0
"""Seconds without a byte after which an event stream counts as dead; the relay sends a comment every 5."""

_NOTICE_TIMEOUT: Final = 2.0
"""Seconds; whoever changed something waits for it, and the change is known without it a little later."""

_MAX_NOTICES: Final = 100
"""In one request; the relay's own limit."""

_READY_TIMEOUT: Final = 2.0
"""Seconds; whoever asks whether this process is ready waits for it."""

T = TypeVar("T")


class _Closed(msgspec.Struct, frozen=True):
    """The answer to a close."""

    closed: bool


class _InternalKey(httpx.Auth):
    """Adds the key to each request, so that it does not stand in the client's default headers."""

    def __init__(self, key: Secret) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        yield request


class ProxyClient:
    """Calls one relay. Use it as an async context manager, or call `aclose`.

    Args:
        url: of the relay's internal HTTP.
        key: the internal key; None where a client certificate in `tls` stands for it.
        tls: for `https`; with a client certificate loaded it is mutual TLS.
        timeout: seconds for one call, and for connecting.
        transport: how httpx reaches the relay; for tests.
    """

    __slots__ = ("_http", "_timeout", "_url")

    def __init__(
        self,
        url: str,
        *,
        key: Secret | None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 5.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            base_url=url,
            auth=_InternalKey(key) if key is not None else None,
            headers={"Accept": MSGPACK},
            timeout=timeout,
            verify=tls if tls is not None else True,
            # The relay is reached directly: a proxy of the environment is for the world outside.
            trust_env=False,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"<ProxyClient {self._url}>"

    async def __aenter__(self) -> ProxyClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def sessions(
        self, team: TeamId, *, device: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """A page of the team's sessions; with `device` (an id or name) only that device's.

        Raises:
            InvalidCursorError: `cursor` is not one that a page gave.
            RelayUnavailableError: the relay does not answer.
        """
        query: dict[str, str | int] = {"team": team, "limit": limit}
        if device is not None:
            query["device"] = device
        if cursor is not None:
            query["cursor"] = cursor
        return await self._call("GET", "/internal/sessions", Page, query)

    async def session(self, team: TeamId, session_id: SessionId) -> Summary:
        """One session.

        Raises:
            SessionNotFoundError: the team has no such session.
            RelayUnavailableError: the relay does not answer.
        """
        return await self._call("GET", _path(session_id), Summary, {"team": team})

    async def close_session(
        self, team: TeamId, session_id: SessionId, *, epoch: int | None = None, reason: str | None = None
    ) -> bool:
        """Close a session; with `epoch` only if it is of that one. Returns whether there was one to close.

        Raises:
            SessionNotFoundError: the id has not the shape of one.
            SessionReplacedError: it is of another epoch.
            RelayUnavailableError: the relay does not answer.
        """
        query: dict[str, str | int] = {"team": team}
        if epoch is not None:
            query["epoch"] = epoch
        if reason is not None:
            query["reason"] = reason
        return (await self._call("DELETE", _path(session_id), _Closed, query)).closed

    async def revoke(self, revocation: Revocation) -> None:
        """Refuse a device or a session token from now on, and close what is open under it.

        Raises:
            RelayUnavailableError: the relay could not be told, and may still honour it.
        """
        body = {"kind": revocation.kind, "team": revocation.team, "expires_at": revocation.expires_at}
        path = f"/internal/revocations/{quote(revocation.id, safe='')}"
        await self._request("PUT", path, {}, msgpack.packb(body))

    async def tell_revocations(self, revocations: Sequence[Revocation]) -> None:
        """Tell the relay all that is revoked, as it must be told after its start.

        Raises:
            RelayUnavailableError: the relay could not be told, and may admit what is revoked.
        """
        body = msgpack.packb({"items": [msgspec.to_builtins(each) for each in revocations]})
        await self._request("PUT", "/internal/revocations", {}, body)

    async def post_notices(self, notices: Sequence[NoticeItem]) -> None:
        """Tell all API servers something, this one included.

        Raises:
            RelayUnavailableError: the relay did not take all of it; or it is too old to know of notices.
        """
        for first in range(0, len(notices), _MAX_NOTICES):
            items = [msgspec.to_builtins(each) for each in notices[first : first + _MAX_NOTICES]]
            await self._request(
                "POST", "/internal/notices", {}, msgpack.packb({"items": items}), timeout=_NOTICE_TIMEOUT
            )

    async def reachable(self) -> bool:
        """Whether the relay answers and takes new tunnels and streams; never raises."""
        try:
            answer = await self._http.get("/readyz", timeout=_READY_TIMEOUT)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    async def events(
        self, position: EventPosition, *, on_heard: Callable[[], object] = bool
    ) -> AsyncGenerator[SessionEvent | Notice | None, None]:
        """What happens to sessions, and what API servers tell one another, from `position` on; endless.

        Args:
            position: moved forward with each event, so that a second call goes on where the first broke off.
            on_heard: called whenever the relay has said something, if only that it is there.

        Yields:
            Events and notices, oldest first. None says that some were lost, because the relay restarted or because we
            were away for too long: whatever was learned from events must be learned anew from the list.

        Raises:
            RelayUnavailableError: the relay does not answer, or the stream broke off.
        """
        headers = {"Accept": "text/event-stream"}
        query = {"notices": "true"}
        if position.last_id is not None:
            headers["Last-Event-ID"] = position.last_id
        timeout = httpx.Timeout(self._timeout, read=_EVENTS_SILENCE)
        try:
            async with self._http.stream(
                "GET", "/internal/events", params=query, headers=headers, timeout=timeout
            ) as answer:
                if answer.status_code != 200:
                    raise _error(answer, await answer.aread())
                cutter = EventCutter(position)
                async for text in answer.aiter_text():
                    on_heard()
                    for event in cutter.feed(text):
                        yield event
        except httpx.HTTPError as exc:
            raise RelayUnavailableError(f"the event stream of the relay at {self._url} broke off") from exc
        raise RelayUnavailableError(f"the relay at {self._url} ended the event stream")

    async def _call(self, method: str, path: str, answer_type: type[T], query: dict[str, str | int]) -> T:
        answer = await self._request(method, path, query)
        try:
            value: Any = msgpack.unpackb(answer)
            return msgspec.convert(value, answer_type)
        except (ValueError, msgpack.UnpackException, msgspec.MsgspecError) as exc:
            raise RelayUnavailableError(f"the relay at {self._url} answered {path} with something else") from exc

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str | int],
        body: bytes | None = None,
        *,
        timeout: float | None = None,
    ) -> bytes:
        headers = {"Content-Type": MSGPACK} if body is not None else None
        seconds = self._timeout if timeout is None else timeout
        try:
            answer = await self._http.request(
                method, path, params=query, content=body, headers=headers, timeout=seconds
            )
        except httpx.HTTPError as exc:
            raise RelayUnavailableError(f"the relay at {self._url} does not answer: {type(exc).__name__}") from exc
        if answer.status_code >= 300:
            raise _error(answer, answer.content)
        return answer.content


def _path(session_id: SessionId) -> str:
    # Whatever a caller calls an id must not become another path.
    if not is_session_id(session_id):
        raise SessionNotFoundError
    return f"/internal/sessions/{session_id}"


def _error(answer: httpx.Response, body: bytes) -> SessionStoreError:
    return error_from_answer(
        answer.status_code, answer.headers.get("Content-Type", ""), body, answer.headers.get("Retry-After", "")
    )
