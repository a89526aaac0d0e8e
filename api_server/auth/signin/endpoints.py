"""`/api/auth`: signing in and out, who one is, and the sessions of one's own."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from api_server.auth.interfaces import Action
from api_server.auth.oidc.errors import (
    CodeRefusedError,
    InvalidCallbackError,
    InvalidIdTokenError,
    InvalidLogoutTokenError,
    ProviderUnavailableError,
    SignInRefusedError,
)
from api_server.auth.signin.authenticator import SessionAuthenticator
from api_server.auth.signin.cookies import Cookies
from api_server.auth.signin.errors import (
    CallbackReplayedError,
    LogoutTokenReplayedError,
    SignInNotConfiguredError,
    SignInSessionNotFoundError,
    UserDisabledError,
)
from api_server.auth.signin.interfaces import SessionRecord, TeamNames, UserRecord, Visit
from api_server.auth.signin.service import CALLBACK_PATH, Redirect, SignInService
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.binding import FORM, bind_form, encode_json
from api_server.http.browsers import has_csrf_header
from api_server.http.errors import CsrfHeaderMissingError
from api_server.http.routes import Caller, Route
from api_server.teams.interfaces import Memberships
from common.ids import TeamId

__all__ = ["Me", "SignInEndpoints"]

_MAX_FORM = 4096
"""Bytes."""


class LoginQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of the login."""

    return_to: Annotated[
        str, Meta(max_length=2048, description="Path of this site to show afterwards: `/devices?page=2`.")
    ] = "/"


class CallbackQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The provider's answer. What else it says is left alone (RFC 6749 section 4.1.2)."""

    state: Annotated[Annotated[str, Meta(max_length=512)] | None, Meta(description="Names the sign-in.")] = None
    code: Annotated[Annotated[str, Meta(max_length=4096)] | None, Meta(description="The authorization code.")] = None
    error: Annotated[Annotated[str, Meta(max_length=512)] | None, Meta(description="Why there is none.")] = None
    iss: Annotated[
        Annotated[str, Meta(max_length=2048)] | None, Meta(description="Which provider answers (RFC 9207).")
    ] = None


class LogoutForm(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider sends to sign somebody out."""

    logout_token: Annotated[str, Meta(min_length=1, max_length=16384)]


class SignOutForm(msgspec.Struct, frozen=True, kw_only=True):
    """How a page without script signs out."""

    csrf_token: Annotated[str, Meta(max_length=128)]


class OwnSessionPath(msgspec.Struct, frozen=True, kw_only=True):
    """Which session."""

    id: Annotated[str, Meta(max_length=64, description="Id of the session: `uss_...`.")]


class MyTeam(msgspec.Struct, frozen=True, kw_only=True):
    """A team of the caller."""

    id: TeamId
    name: str
    role: str | None
    """Of a person; a token has none."""
    actions: list[Action]
    """What the caller may do in the team."""


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The caller."""

    kind: Literal["token", "user", "service"]
    id: str
    """Stable and unique within `kind`."""
    name: str
    """For people."""
    user: UserRecord | None
    """The person; null for a token."""
    session: str | None
    """Id of the session of the person."""
    csrf_token: str | None
    """For the forms of a person's browser; see `/api/auth/logout`."""
    teams: list[MyTeam]
    installation: list[Action]
    """What the caller may do that concerns no team."""


class SignedOut(msgspec.Struct, frozen=True, kw_only=True):
    """The session has ended here."""

    end_session_url: str
    """Send the browser there: the provider ends its own session, or has none to end."""


class OwnSessionList(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions of the caller."""

    items: list[SessionRecord]
    next: str | None = None


class SignInEndpoints:
    """Serves `/api/auth`.

    Args:
        service: signs in and out.
        cookies: reads them.
        sessions: tells which session asks.
        memberships: the roles of people.
        names: of teams.
    """

    def __init__(
        self,
        service: SignInService,
        cookies: Cookies,
        sessions: SessionAuthenticator,
        memberships: Memberships,
        names: TeamNames,
    ) -> None:
        self._service = service
        self._cookies = cookies
        self._sessions = sessions
        self._memberships = memberships
        self._names = names

    def routes(self) -> list[Route]:
        """The endpoints."""
        html = "text/html"
        provider = (ProviderUnavailableError, SignInNotConfiguredError)
        stored = (DatabaseUnavailableError,)
        return [
            Route(
                method="GET",
                path="/api/auth/login",
                handler=self.begin_sign_in,
                status=303,
                media_type=html,
                errors=provider,
            ),
            Route(
                method="GET",
                path=CALLBACK_PATH,
                handler=self.finish_sign_in,
                status=303,
                media_type=html,
                errors=(
                    CallbackReplayedError,
                    CodeRefusedError,
                    InvalidCallbackError,
                    InvalidIdTokenError,
                    SignInRefusedError,
                    UserDisabledError,
                    *provider,
                    *stored,
                ),
            ),
            Route(method="GET", path="/api/auth/me", handler=self.show_identity, errors=stored),
            Route(
                method="POST",
                path="/api/auth/logout",
                handler=self.sign_out,
                answer=SignedOut,
                redirects=True,
                checks_csrf=True,
                errors=(CsrfHeaderMissingError, SignInSessionNotFoundError, *stored),
            ),
            Route(
                method="POST",
                path="/api/auth/backchannel-logout",
                handler=self.take_logout_token,
                errors=(InvalidLogoutTokenError, LogoutTokenReplayedError, *provider, *stored),
            ),
            Route(
                method="GET",
                path="/api/auth/sessions",
                handler=self.list_own_sessions,
                errors=(SignInSessionNotFoundError, *stored),
            ),
            Route(
                method="DELETE",
                path="/api/auth/sessions/{id}",
                handler=self.end_own_session,
                status=204,
                errors=(SignInSessionNotFoundError, *stored),
            ),
        ]

    async def begin_sign_in(self, query: LoginQuery, request: web.Request) -> web.Response:
        """Sign in: go to the identity provider.

        For browsers. The answer sends them to the provider, which sends them back to `/api/auth/callback`. `return_to`
        must be a path of this site.
        """
        redirect = await self._service.begin(
            host=request.host,
            target=request.raw_path,
            return_to=query.return_to,
            cookies=_cookies(request),
        )
        return _see_other(redirect)

    async def finish_sign_in(self, query: CallbackQuery, caller: Caller, request: web.Request) -> web.Response:
        """Sign in: come back from the identity provider.

        For browsers, which come here with the provider's answer and go on to `return_to` with a session cookie. An
        answer counts once, and in the browser that asked for it.
        """
        redirect = await self._service.finish(
            state=query.state,
            code=query.code,
            error=query.error,
            iss=query.iss,
            cookies=_cookies(request),
            visit=_visit(caller, request),
        )
        return _see_other(redirect)

    async def show_identity(self, caller: Caller, request: web.Request) -> Me:
        """Show who you are to the API, and what you may do."""
        identity = caller.identity
        session = await self._sessions.session_of(_cookies(request)) if identity.kind == "user" else None
        roles = await self._memberships.teams_of(identity.id) if identity.kind == "user" else {}
        names = await self._names.names_of(frozenset(identity.teams))
        return Me(
            kind=identity.kind,
            id=identity.id,
            name=identity.name,
            user=None if session is None else session.user,
            session=None if session is None else session.id,
            csrf_token=None if session is None else self._cookies.csrf_token(_cookies(request)),
            teams=[
                MyTeam(
                    id=team,
                    name=names.get(team, team),
                    role=None if (role := roles.get(team)) is None else role.value,
                    actions=sorted(actions),
                )
                for team, actions in sorted(identity.teams.items())
            ],
            installation=sorted(identity.installation),
        )

    async def sign_out(self, caller: Caller, request: web.Request) -> web.Response:
        """Sign out: end the session that asks.

        It ends here at once; send the browser to `end_session_url` for it to end at the identity provider, too. A form
        with the field `csrf_token` (see `/api/auth/me`) does as well as the header `X-Homeport-CSRF`; a browser that
        accepts no JSON is redirected.
        """
        cookies = _cookies(request)
        if not has_csrf_header(request.headers):
            await self._check_form(cookies, request)
        redirect = await self._service.sign_out(cookies, _visit(caller, request))
        accepted = request.headers.get("Accept", "*/*")
        if "text/html" in accepted and "json" not in accepted:
            return _see_other(redirect)
        response = web.Response(
            body=encode_json(SignedOut(end_session_url=redirect.url)), content_type="application/json"
        )
        return _with_cookies(response, redirect)

    async def _check_form(self, cookies: str, request: web.Request) -> None:
        if request.content_type == FORM and self._cookies.has_session(cookies):
            form = await bind_form(request, SignOutForm, _MAX_FORM)
            if self._cookies.csrf_token_holds(cookies, form.csrf_token):
                return
        raise CsrfHeaderMissingError("send X-Homeport-CSRF: 1, or a form with the csrf_token that /api/auth/me gives")

    async def take_logout_token(self, form: LogoutForm, caller: Caller, request: web.Request) -> None:
        """Sign somebody out, for the identity provider.

        OpenID Connect Back-Channel Logout: a token that the provider signed names the session, or the person. It counts
        once.
        """
        await self._service.log_out(form.logout_token, _visit(caller, request))

    async def list_own_sessions(self, request: web.Request) -> OwnSessionList:
        """List the sessions in which you are signed in.

        Newest first. `current` is the one that asks.
        """
        return OwnSessionList(items=await self._service.sessions(_cookies(request)))

    async def end_own_session(self, path: OwnSessionPath, caller: Caller, request: web.Request) -> None:
        """End a session of yours.

        Within a second nothing can be done with it any more.
        """
        await self._service.end_session(_cookies(request), path.id, _visit(caller, request))


def _cookies(request: web.Request) -> str:
    return "; ".join(request.headers.getall("Cookie", ()))


def _visit(caller: Caller, request: web.Request) -> Visit:
    agent = "".join(filter(str.isprintable, request.headers.get("User-Agent", "")))
    return Visit(address=caller.address, request_id=caller.request_id, user_agent=agent[:400])


def _see_other(redirect: Redirect) -> web.Response:
    """303: whatever the method was, the next one is GET (RFC 9110 section 15.4.4)."""
    return _with_cookies(web.Response(status=303, headers={"Location": redirect.url}), redirect)


def _with_cookies(response: web.Response, redirect: Redirect) -> web.Response:
    for line in redirect.cookies:
        response.headers.add("Set-Cookie", line)
    return response
