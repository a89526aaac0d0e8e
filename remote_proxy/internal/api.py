"""The control API of the internal port, on aiohttp. Never on the way of a stream.

    GET    /internal/sessions?team=[&device=][&limit=][&cursor=]    a page: {"items": [Summary], "next": cursor or null}
    GET    /internal/sessions/{id}?team=                            Summary
    DELETE /internal/sessions/{id}?team=[&epoch=][&reason=]         {"closed": bool}
    PUT    /internal/revocations/{id}  {"kind", "team", "expires_at"}         {"closed": number of tunnels}
    DELETE /internal/revocations/{id}?team=&kind=                   {"restored": bool}
    PUT    /internal/revocations  {"items": [{"id", "kind", "team", "expires_at"}]}   {"closed": number of tunnels}
    GET    /internal/events[?notices=true]                          server-sent events, see `feed`
    POST   /internal/notices  {"items": [{"type", "team", "subject", "data"}]}   {"posted": number}, see `notices`
    GET    /metrics  /healthz  /readyz

Everything but the health checks takes the internal key. Bodies are msgpack, or JSON when `Accept` asks for it; an
error is a problem object in the same codec.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from common.errors import HomeportError
from common.ids import SessionId, TeamId, is_name, is_session_id
from common.logging import Logger
from common.sessions.errors import DeviceOfflineError, SessionNotFoundError
from common.sessions.interfaces import MAX_PAGE, Page
from remote_proxy.errors import (
    BadRequestError,
    MethodNotAllowedError,
    NoSuchPathError,
    RelayError,
    UpgradeRequiredError,
)
from remote_proxy.events import EventRing
from remote_proxy.internal.authentication import Authentication
from remote_proxy.internal.codec import codec_for, decode
from remote_proxy.internal.feed import serve_events
from remote_proxy.internal.notices import NoticeList, post
from remote_proxy.revocations import RevocationKey, RevocationKind, Revocations
from remote_proxy.store import InMemoryStore
from remote_proxy.tunnels.session import LiveTunnel

__all__ = ["ControlApi", "Revocation", "RevocationList"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OPEN_PATHS = frozenset(("/healthz", "/readyz"))
_REASON = re.compile(r"[a-z][a-z_]{0,39}", re.ASCII)
_MAX_BODY = 4 * 1024 * 1024
"""Bytes; a list of 30,000 revocations."""

_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_Time = Annotated[float, Meta(ge=0, le=2**53)]


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """What `PUT /internal/revocations/{id}` takes."""

    kind: RevocationKind
    team: str
    expires_at: _Time
    """Unix seconds after which the tokens that it is about have expired, so that it may be forgotten."""


class RevocationItem(Revocation, frozen=True, kw_only=True):
    """One revocation of a list."""

    id: _Id


class RevocationList(msgspec.Struct, frozen=True, kw_only=True):
    """What `PUT /internal/revocations` takes: everything that is in force, told to a relay that may not know."""

    items: list[RevocationItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlApi:
    """The handlers and what they act on.

    Args:
        store: the sessions.
        revocations: what may not come back.
        events: what happened to the sessions.
        authentication: the check of the internal key.
        not_ready: why the relay takes no new tunnels, or None if it does.
        expose: the metrics as text, from the `Accept` header: content type and body.
        log: for requests that failed by a fault of ours.
    """

    store: InMemoryStore[LiveTunnel]
    revocations: Revocations
    events: EventRing
    authentication: Authentication
    not_ready: Callable[[], str | None]
    expose: Callable[[str], Awaitable[tuple[str, bytes]]]
    log: Logger

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(middlewares=[self._answer_errors, self._authenticate], client_max_size=_MAX_BODY)
        application.router.add_get("/internal/sessions", self._list)
        application.router.add_get("/internal/sessions/{id}", self._show)
        application.router.add_delete("/internal/sessions/{id}", self._close)
        application.router.add_post("/internal/sessions/{id}/streams", self._stream)
        application.router.add_put("/internal/revocations/{id}", self._revoke)
        application.router.add_delete("/internal/revocations/{id}", self._restore)
        application.router.add_put("/internal/revocations", self._revoke_all)
        application.router.add_get("/internal/events", self._events)
        application.router.add_post("/internal/notices", self._notices)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        return application

    # Middlewares

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The one place where errors become answers."""
        try:
            return await handler(request)
        except HomeportError as exc:
            return _problem(request, exc)
        except web.HTTPMethodNotAllowed as exc:
            return _problem(request, MethodNotAllowedError(), headers={"Allow": ", ".join(sorted(exc.allowed_methods))})
        except web.HTTPNotFound:
            return _problem(request, NoSuchPathError())
        except web.HTTPRequestEntityTooLarge:
            return _problem(request, BadRequestError(f"the body is longer than {_MAX_BODY} bytes"))
        except web.HTTPException:
            raise
        except Exception:
            self.log.exception("internal request failed", method=request.method, path=request.path)
            return _problem(request, RelayError())

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _OPEN_PATHS:
            authorization = request.headers.get("Authorization")
            self.authentication.check(authorization.encode() if authorization is not None else None)
        response = await handler(request)
        if self.not_ready() is not None and not response.prepared:
            response.force_close()  # the next request shall find the relay that follows
        return response

    # Sessions

    async def _list(self, request: web.Request) -> web.Response:
        team = _team(request)
        device = request.query.get("device")
        if device is None:
            page = self.store.list_nowait(team, limit=_limit(request), cursor=request.query.get("cursor"))
        else:
            try:
                page = Page(items=[self.store.lookup_device_nowait(team, device).describe()], next=None)
            except DeviceOfflineError:
                page = Page(items=[], next=None)
        return _answer(request, page)

    async def _show(self, request: web.Request) -> web.Response:
        return _answer(request, self.store.lookup_nowait(_team(request), _session_id(request)).describe())

    async def _close(self, request: web.Request) -> web.Response:
        reason = request.query.get("reason", "closed_by_operator")
        if _REASON.fullmatch(reason) is None:
            raise BadRequestError("the parameter reason is not a code of lower-case letters")
        epoch = request.query.get("epoch")
        if epoch is not None and not (epoch.isascii() and epoch.isdigit() and len(epoch) <= 18):
            raise BadRequestError("the parameter epoch is not an epoch")
        try:
            session_id = _session_id(request)
        except SessionNotFoundError:
            return _answer(request, {"closed": False})
        closed = self.store.unregister_nowait(
            _team(request), session_id, int(epoch) if epoch is not None else None, reason=reason
        )
        return _answer(request, {"closed": closed})

    async def _stream(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Reached only without an upgrade, or after another request on the connection: see `connections`."""
        raise UpgradeRequiredError("a stream is opened by the first request of a connection")

    # Revocations

    async def _revoke(self, request: web.Request) -> web.Response:
        revocation = decode(await request.read(), request.content_type, Revocation)
        key = _key(revocation.kind, revocation.team, request.match_info["id"])
        closed = self.revocations.revoke(key, revocation.expires_at)
        self.log.info("revoked", kind=key.kind, team=key.team, id=key.id, closed=closed)
        return _answer(request, {"closed": closed})

    async def _revoke_all(self, request: web.Request) -> web.Response:
        items = decode(await request.read(), request.content_type, RevocationList).items
        keys = [(_key(item.kind, item.team, item.id), item.expires_at) for item in items]
        closed = sum(self.revocations.revoke(key, expires_at) for key, expires_at in keys)
        self.revocations.told = True
        self.log.info("revocations received", number=len(keys), closed=closed)
        return _answer(request, {"closed": closed})

    async def _restore(self, request: web.Request) -> web.Response:
        try:
            kind = RevocationKind(request.query.get("kind", ""))
        except ValueError as exc:
            raise BadRequestError("the parameter kind is neither device nor credential") from exc
        restored = self.revocations.restore(_key(kind, _team(request), request.match_info["id"]))
        return _answer(request, {"restored": restored})

    # The rest

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await serve_events(request, self.events)

    async def _notices(self, request: web.Request) -> web.Response:
        items = decode(await request.read(), request.content_type, NoticeList).items
        return _answer(request, {"posted": post(self.events, items)})

    async def _metrics(self, request: web.Request) -> web.Response:
        content_type, body = await self.expose(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _healthz(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return _last(web.Response(text="ok\n"))

    async def _readyz(self, request: web.Request) -> web.Response:  # noqa: ARG002
        reason = self.not_ready()
        return _last(web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200))


def _team(request: web.Request) -> TeamId:
    team = request.query.get("team", "")
    if not is_name(team):
        raise BadRequestError("the parameter team is missing, or is not a name")
    return TeamId(team)


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", "100")
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_PAGE):
        raise BadRequestError(f"the parameter limit is not a number from 1 to {MAX_PAGE}")
    return int(text)


def _session_id(request: web.Request) -> SessionId:
    session_id = request.match_info["id"]
    if not is_session_id(session_id):
        raise SessionNotFoundError
    return SessionId(session_id)


def _key(kind: RevocationKind, team: str, id_: str) -> RevocationKey:
    if not is_name(team):
        raise BadRequestError("the team is not a name")
    if not 1 <= len(id_) <= 64:
        raise BadRequestError("the id is longer than 64 characters")
    return RevocationKey(kind, TeamId(team), id_)


def _answer(request: web.Request, value: object) -> web.Response:
    codec = codec_for(request.headers.get("Accept", ""))
    return web.Response(body=codec.encode(value), headers={"Content-Type": codec.content_type})


def _last(answer: web.Response) -> web.Response:
    """End the connection after `answer`: who has not shown the key does not get to keep one."""
    answer.force_close()
    return answer


def _problem(request: web.Request, error: HomeportError, headers: dict[str, str] | None = None) -> web.Response:
    codec = codec_for(request.headers.get("Accept", ""))
    answer = web.Response(
        status=error.status,
        body=codec.encode_problem(error),
        headers={"Content-Type": codec.problem_type, **(headers or {})},
    )
    if error.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
        _last(answer)
    if error.status == 426:
        answer.headers["Upgrade"] = "homeport-stream"
    if error.retry_after is not None:
        answer.headers["Retry-After"] = str(math.ceil(error.retry_after))
    return answer
