"""The REST application: routes, and around each the same few steps, in this order.

    answer()         request id, security headers, errors into problem+json, metrics, log
      refuse         unsafe requests that a browser makes for another site
      identify       401, unless the route is on the public list; a token in a header goes before a session cookie
      bind path and query, authorise the action in the team, bind the body
        the handler

`build` is called once, by the composition root.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from api_server.auth.credentials import presented
from api_server.auth.errors import AuthError, UnauthenticatedError
from api_server.auth.interfaces import PENDING, Action, Authenticator, CookieAuthenticator, Identity
from api_server.http.binding import bind_body, bind_form, bind_text, encode_json
from api_server.http.browsers import (
    CSRF_HEADER,
    SAFE_METHODS,
    SECURITY_HEADERS,
    has_csrf_header,
    refuse_cross_site,
)
from api_server.http.errors import (
    BodyTooLargeError,
    CsrfHeaderMissingError,
    InternalError,
    MalformedRequestError,
    MethodNotAllowedError,
    PathNotFoundError,
)
from api_server.http.metrics import RestMetrics
from api_server.http.problems import problem_response
from api_server.http.public import PUBLIC
from api_server.http.routes import Caller, Route, authorise
from api_server.limits.headers import rate_limit_fields
from api_server.limits.limiter import Limiter
from common.errors import HomeportError
from common.ids import TeamId
from common.logging import Logger, get_logger

__all__ = ["RestApplication"]

_NO_IDENTITY = Identity(kind="service", id="", name="nobody", teams={})
"""Who calls a public route. It may do nothing."""

_LIMITS = "/api/limits"

_WATCH_INTERVAL = 0.5
"""Seconds between two looks at whether somebody who follows a stream is still known."""

_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RestApplication:
    """Makes an aiohttp application of routes.

    Args:
        authenticator: the source of identity of programs.
        sessions: the source of identity of people; None where nobody signs in.
        metrics: what is counted.
        public_origin: the origin of this API behind a reverse proxy, `https://api.example.org`; None without one.
        max_request_bytes: largest body.
        limiter: says how many requests may be made; None: as many as come.
        log: for requests that change something, and faults.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        metrics: RestMetrics,
        public_origin: str | None,
        max_request_bytes: int,
        sessions: CookieAuthenticator | None = None,
        limiter: Limiter | None = None,
        log: Logger | None = None,
    ) -> None:
        self._limiter = limiter
        self._authenticator = authenticator
        self._sessions = sessions
        self._metrics = metrics
        self._public_origin = public_origin
        self._max_request_bytes = max_request_bytes
        self._log = log if log is not None else get_logger(__name__)

    def build(self, routes: Iterable[Route]) -> web.Application:
        """The application that serves `routes`."""
        application = web.Application(middlewares=[self._answer], client_max_size=self._max_request_bytes)
        application.on_response_prepare.append(_add_headers)
        application.on_response_prepare.append(self._add_standings)
        for route in routes:
            application.router.add_route(route.method, route.path, self._endpoint(route))
            if route.method == "GET" and route.media_type != "text/event-stream":  # whose head says nothing by itself
                application.router.add_route("HEAD", route.path, self._endpoint(route))
        return application

    @web.middleware
    async def _answer(self, request: web.Request, handler: _Next) -> web.StreamResponse:
        """Every answer leaves through here, whatever happens behind."""
        started = time.perf_counter()
        request_id = "req_" + secrets.token_hex(12)
        request[_REQUEST_ID] = request_id
        error: HomeportError | None = None
        try:
            response = await self._admit(request, handler)
        except HomeportError as exc:
            error = exc
            if exc.status >= 500:
                self._log.warning("request failed", request_id=request_id, code=exc.code, detail=exc.detail)
        except web.HTTPException as exc:
            error = _of_aiohttp(exc)
        except Exception:
            self._log.exception("request failed", request_id=request_id, method=request.method, path=request.path)
            error = InternalError(f"the log has the cause, under {request_id}")
        if error is not None:
            response = problem_response(error, request_id, scripted=has_csrf_header(request.headers))
            if _STARTED in request and request.transport is not None:
                # The head of another answer is on its way. A cut connection is the one thing that still says "failed".
                request.transport.abort()
        self._count(request, response, error, time.perf_counter() - started)
        return response

    async def _admit(self, request: web.Request, handler: _Next) -> web.StreamResponse:
        refuse_cross_site(request.method, request.headers, self._own_origins(request))
        limiter = self._limiter
        if limiter is None or limiter.idle:
            request[_IDENTITY] = await self._identify(request)
            return await handler(request)
        try:
            request[_IDENTITY] = identity = await self._identify(request)
        except AuthError:
            await self._limit(limiter, request, _NO_IDENTITY)  # it counts against the address
            raise
        # Who could have set a limit by which nobody may change a limit must be able to take it back.
        if not (request.path.startswith(_LIMITS) and identity.may(Action.LIMITS_CHANGE_INSTALLATION, None)):
            await self._limit(limiter, request, identity)
        return await handler(request)

    async def _limit(self, limiter: Limiter, request: web.Request, identity: Identity) -> None:
        request[_METERS] = meters = limiter.subjects(
            team=next(iter(identity.teams)) if len(identity.teams) == 1 else None,
            token=identity.id or None,
            route=None,
            address=request.remote or "",
            device=None,
        )
        await limiter.wait_request(meters, api=True)

    async def _add_standings(self, request: web.Request, response: web.StreamResponse) -> None:
        """How those who take part stand with their quotas, on every answer."""
        meters = request.get(_METERS)
        if meters and self._limiter is not None:
            response.headers.update(rate_limit_fields(self._limiter.standings(meters, api=True)))

    def _own_origins(self, request: web.Request) -> frozenset[str]:
        if self._public_origin is not None:
            return frozenset({self._public_origin})
        return frozenset({f"{request.scheme}://{request.host}".lower()})

    async def _identify(self, request: web.Request) -> Identity:
        shown = presented(request.raw_headers, request.rel_url.raw_query_string.encode("utf-8", "surrogateescape"))
        resource = request.match_info.route.resource
        method = "GET" if request.method == "HEAD" else request.method
        if resource is not None and (method, resource.canonical) in PUBLIC:
            return _NO_IDENTITY
        if shown is None:
            return await self._identify_person(request)
        address = request.remote or ""
        identity = self._authenticator.authenticate_nowait(shown.credential, address=address)
        if identity is PENDING:
            identity = await self._authenticator.authenticate(shown.credential, address=address)
        if identity is None:
            raise UnauthenticatedError("the token is not known here")
        return identity

    async def _identify_person(self, request: web.Request) -> Identity:
        cookies = "; ".join(request.headers.getall("Cookie", ()))
        identity = None
        if cookies and self._sessions is not None:
            identity = await self._sessions.authenticate_cookies(cookies)
        if identity is None:
            raise UnauthenticatedError(
                "send Authorization: Bearer hp_..., or X-API-Key: hp_...; people sign in at /api/auth/login"
            )
        request[_BY_COOKIE] = True
        return identity

    async def _while_known(
        self, request: web.Request, route: Route, teams: frozenset[TeamId], handling: Awaitable[Any]
    ) -> Any:
        """Answer by a stream, which is cut when the person is signed out or the token is revoked, or when they may not
        have it any more.
        """
        watch = asyncio.get_running_loop().create_task(self._watch(request, route, teams), name="watch who follows")
        try:
            return await handling
        finally:
            watch.cancel()

    async def _watch(self, request: web.Request, route: Route, teams: frozenset[TeamId]) -> None:
        while True:
            await asyncio.sleep(_WATCH_INTERVAL)
            try:
                identity = await self._identify(request)
            except AuthError:
                break
            except HomeportError:
                continue  # the database is away: new requests are refused, what is open stays
            if route.action is not None and not all(identity.may(route.action, team) for team in teams):
                break
        if request.transport is not None:
            request.transport.abort()

    def _endpoint(self, route: Route) -> _Next:
        """The handler as aiohttp calls it. All that can be found out about it once is found out here."""
        parameters = route.parameters
        path_type, query_type = parameters.get("path"), parameters.get("query", _NoQuery)
        body_type, form_type = parameters.get("body"), parameters.get("form")
        decoder: msgspec.json.Decoder[Any] | None = None if body_type is None else msgspec.json.Decoder(body_type)
        wants_csrf_header = route.method not in SAFE_METHODS and not route.checks_csrf
        wants_caller, wants_request = "caller" in parameters, "request" in parameters

        async def endpoint(request: web.Request) -> web.StreamResponse:
            identity = request[_IDENTITY]
            if wants_csrf_header and _BY_COOKIE in request and not has_csrf_header(request.headers):
                raise CsrfHeaderMissingError(f"send {CSRF_HEADER}: 1")
            arguments: dict[str, Any] = {}
            query = bind_text("query", request.query.items(), query_type)
            if path_type is not None:
                arguments["path"] = bind_text("path", request.match_info.items(), path_type)
            if "query" in parameters:
                arguments["query"] = query
            named = getattr(arguments.get("path"), "team", None) or getattr(query, "team", None)
            teams = authorise(identity, route, named)
            if decoder is not None:
                arguments["body"] = await bind_body(request, decoder, self._max_request_bytes)
            if form_type is not None:
                arguments["form"] = await bind_form(request, form_type, self._max_request_bytes)
            if wants_caller:
                arguments["caller"] = Caller(
                    identity=identity, teams=teams, address=request.remote or "", request_id=request[_REQUEST_ID]
                )
            if wants_request:
                arguments["request"] = request
            if route.media_type == "text/event-stream":
                result = await self._while_known(request, route, teams, route.handler(**arguments))
            else:
                result = await route.handler(**arguments)
            if isinstance(result, web.StreamResponse):
                return result
            if result is None:
                return web.Response(status=route.status)
            return web.Response(status=route.status, body=encode_json(result), content_type=route.media_type)

        return endpoint

    def _count(
        self, request: web.Request, response: web.StreamResponse, error: HomeportError | None, seconds: float
    ) -> None:
        resource = request.match_info.route.resource
        route = "none" if resource is None else resource.canonical
        method = request.method if request.method in hdrs.METH_ALL else "other"
        self._metrics.requests.labels(route, method, str(response.status)).inc()
        if response.content_type != "text/event-stream":
            self._metrics.seconds.labels(route).observe(seconds)
        if isinstance(error, AuthError) and error.status in (400, 401, 429):
            self._metrics.refused.labels(error.code).inc()
        if request.method not in ("GET", "HEAD"):
            identity = request.get(_IDENTITY)
            self._log.info(
                "request",
                request_id=request[_REQUEST_ID],
                method=method,
                path=request.path,
                status=response.status,
                code=None if error is None else error.code,
                identity=None if identity is None else f"{identity.kind}:{identity.id}",
                address=request.remote,
            )


class _NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an endpoint that takes no query."""


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Just before a head is sent, that of a stream too."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = SECURITY_HEADERS["Server"]  # aiohttp has set its own by now
    response.headers["X-Request-Id"] = request[_REQUEST_ID]
    request[_STARTED] = True


_REQUEST_ID = web.RequestKey("request_id", str)
_IDENTITY = web.RequestKey("identity", Identity)
_METERS = web.RequestKey("meters", list)
_BY_COOKIE = web.RequestKey("by_cookie", bool)
"""The identity is that of a cookie, which browsers send without being asked."""
_STARTED = web.RequestKey("started", bool)
"""The head of an answer is on its way."""


def _of_aiohttp(error: web.HTTPException) -> HomeportError:
    """What aiohttp raises by itself, as ours."""
    match error:
        case web.HTTPNotFound():
            return PathNotFoundError("there is nothing at this path; /openapi.json lists what there is")
        case web.HTTPMethodNotAllowed():
            return MethodNotAllowedError(error.allowed_methods)
        case web.HTTPRequestEntityTooLarge():
            return BodyTooLargeError("the body is too large")
        case _:
            return MalformedRequestError(error.reason or "the request cannot be understood")
