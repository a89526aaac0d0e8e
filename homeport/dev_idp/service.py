"""HTTP around the provider for development.

Every request must name this machine as its host: a page elsewhere whose name was made to resolve to 127.0.0.1 (DNS
rebinding) names its own. Forms must come from the provider's own pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

import httpx
import msgspec
from aiohttp import web

from api_server.http.browsers import refuse_cross_site
from api_server.http.errors import CrossSiteRequestError
from common.clock import Clock
from common.errors import HomeportError
from common.logging import Logger, get_logger
from common.urls import is_loopback
from homeport.dev_idp.errors import OAuthError
from homeport.dev_idp.pages import home_page, message_page, policy, sign_in_page
from homeport.dev_idp.people import DevPeople
from homeport.dev_idp.provider import DevProvider

__all__ = ["DevIdpService"]

_COOKIE = "homeport_dev_idp"
_MAX_BODY = 64 * 1024
_MAX_FIELD = 4096
_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DevIdpService:
    """The provider as an aiohttp application.

    Args:
        provider: decides.
        people: who may be chosen.
        http: carries logout tokens to the API.
        clock: wall time.
        log: for logouts that do not arrive.
    """

    def __init__(
        self,
        provider: DevProvider,
        people: DevPeople,
        http: httpx.AsyncClient,
        clock: Clock,
        *,
        log: Logger | None = None,
    ) -> None:
        self._provider = provider
        self._people = people
        self._http = http
        self._clock = clock
        self._log = log if log is not None else get_logger(__name__)

    def application(self) -> web.Application:
        """The application."""
        application = web.Application(middlewares=[self._answer], client_max_size=_MAX_BODY)
        application.router.add_get("/", self._show_home)
        application.router.add_get("/.well-known/openid-configuration", self._show_metadata)
        application.router.add_get("/jwks", self._show_keys)
        application.router.add_get("/authorize", self._ask)
        application.router.add_post("/authorize", self._choose)
        application.router.add_post("/token", self._redeem)
        application.router.add_get("/userinfo", self._show_userinfo)
        application.router.add_get("/end-session", self._end_session)
        application.router.add_post("/sign-out", self._sign_out)
        return application

    @web.middleware
    async def _answer(self, request: web.Request, handler: _Next) -> web.StreamResponse:
        try:
            if not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
                raise CrossSiteRequestError("this provider answers to names of this machine only")
            if request.path != "/token":  # the API's; the others are a browser's
                refuse_cross_site(request.method, request.headers, frozenset({self._provider.issuer}))
            response = await handler(request)
        except OAuthError as exc:
            if request.path == "/token":
                response = _json({"error": exc.error, "error_description": exc.detail}, status=exc.status)
            else:
                response = _html(message_page("This cannot be done", exc.detail), status=exc.status)
        except (HomeportError, ValueError) as exc:
            status = exc.status if isinstance(exc, HomeportError) else 400
            detail = exc.detail if isinstance(exc, HomeportError) else "The request makes no sense."
            response = _html(message_page("This cannot be done", detail), status=status)
        response.headers["Cache-Control"] = "no-store"
        # Not "no-referrer": a browser would then send `Origin: null` with the forms of these pages.
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        return response

    async def _show_home(self, _request: web.Request) -> web.Response:
        return _html(home_page(self._provider.sessions.values()))

    async def _show_metadata(self, _request: web.Request) -> web.Response:
        return _json(self._provider.metadata())

    async def _show_keys(self, _request: web.Request) -> web.Response:
        return _json(self._provider.keys())

    async def _ask(self, request: web.Request) -> web.Response:
        asked = self._provider.check(_fields(request.query))
        target = urlsplit(asked.redirect_uri)
        fields = msgspec.to_builtins(asked)
        page = sign_in_page(fields, self._people.all())
        return _html(page, form_target=f"{target.scheme}://{target.netloc}")

    async def _choose(self, request: web.Request) -> web.Response:
        form = _fields(await request.post())
        asked = self._provider.check(form)
        if "subject" in form:
            person = self._people.get(form["subject"])
            if person is None:
                raise OAuthError("invalid_request", "there is no such person")
        else:
            person = self._people.add(form.get("name", ""), form.get("email", ""))
        url, session = self._provider.grant(asked, person, self._clock.wall())
        response = web.Response(status=303, headers={"Location": url})
        response.set_cookie(_COOKIE, session.sid, path="/", httponly=True, samesite="Lax")
        return response

    async def _redeem(self, request: web.Request) -> web.Response:
        return _json(self._provider.redeem(_fields(await request.post()), self._clock.wall()))

    async def _show_userinfo(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        person = self._provider.userinfo(token, self._clock.wall()) if scheme.lower() == "bearer" else None
        if person is None:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        return _json(person)

    async def _end_session(self, request: web.Request) -> web.Response:
        fields = _fields(request.query)
        await self._tell(request.cookies.get(_COOKIE, ""))
        target = self._provider.return_address(fields)
        if target is None:
            response = _html(message_page("Signed out", "You are signed out."))
        else:
            response = web.Response(status=303, headers={"Location": target})
        response.del_cookie(_COOKIE, path="/")
        return response

    async def _sign_out(self, request: web.Request) -> web.Response:
        await self._tell(_fields(await request.post()).get("sid", ""))
        return web.Response(status=303, headers={"Location": "/"})

    async def _tell(self, sid: str) -> None:
        """End a session, and tell the API by the back channel."""
        ended = self._provider.end(sid, self._clock.wall())
        if ended is None:
            return
        url, token = ended
        try:
            answer = await self._http.post(url, data={"logout_token": token})
        except httpx.HTTPError as exc:
            self._log.warning("the API cannot be told of a logout", url=url, detail=type(exc).__name__)
        else:
            if answer.status_code != 200:
                self._log.warning("the API does not take a logout token", url=url, status=answer.status_code)


def _fields(given: Mapping[str, object]) -> dict[str, str]:
    """Query or form; each name once."""
    if len(given) != len(set(given)) or len(given) > 50:
        raise OAuthError("invalid_request", "a parameter is given twice")
    fields = {name: value for name, value in given.items() if isinstance(value, str) and len(value) <= _MAX_FIELD}
    if len(fields) != len(given):
        raise OAuthError("invalid_request", "a parameter is too long, or a file")
    return fields


def _json(content: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), content_type="application/json", status=status)


def _html(page: str, *, status: int = 200, form_target: str = "") -> web.Response:
    headers = {"Content-Security-Policy": policy(form_target)}
    return web.Response(text=page, content_type="text/html", status=status, headers=headers)
