"""A provider as a real HTTP server, which a test can make slow, rude, or wrong; it speaks as GitHub, GitLab and
Bitbucket do.

    async with running_double() as provider:
        code = provider.consent(url_of_the_authorization_request)

Refresh tokens rotate: the old one is dead as soon as the new one is given, and showing a dead one ends the whole grant
(RFC 9700 section 4.14.2). Every refresh token that is shown is counted.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import web

__all__ = ["CANARY", "Double", "running_double"]

CANARY = "c4nary"
"""Every token that the double gives begins so."""


@dataclass
class Double:
    """The provider, and its knobs."""

    url: str = ""
    delay: float = 0.0
    """Seconds that a token request takes."""
    form: bool = False
    """Answer with a form."""
    expires_in: Any = 7200
    """None: it does not say."""
    refresh_expires_in: Any = None
    rotates: bool = True
    mode: str = "well"
    """well; or what happens to token requests: hang, cut, huge, html, error_500, error_429, invalid_grant,
    github_error, swallow (it is done, and the connection cut), invalid_client."""
    strict: bool = True
    """Whether a refresh token that is shown a second time ends its grant."""
    hangs_after: bool = False
    """Whether a token request that hangs has been done by then."""
    revocation: int = 200
    """Status of revocations."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)
    """Refresh tokens that hold, and the grant of each."""
    spent: dict[str, int] = field(default_factory=dict)
    shown: Counter[str] = field(default_factory=Counter)
    """How often each refresh token was shown."""
    revoked: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Paths."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by a token request."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    """A token request that hangs waits for it."""
    _number: Any = field(default_factory=itertools.count)

    def consent(self, url: str) -> dict[str, str]:
        """What the browser brings back after somebody has agreed at `url`."""
        request = dict(parse_qsl(urlsplit(url).query))
        code = f"code-{next(self._number)}"
        self.codes[code] = request
        return {"code": code, "state": request["state"]}

    def invalidate(self) -> None:
        """Forget every grant, as after the person has removed the application."""
        self.spent |= self.current
        self.current.clear()

    async def token(self, request: web.Request) -> web.StreamResponse:
        """The token endpoint."""
        form = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        self.asked.append(request.path)
        if "refresh_token" in form:
            self.shown[form["refresh_token"]] += 1
        self.arrived.set()
        mode = self.mode
        if mode == "hang" and self.hangs_after:
            given = self._given(form)
            await self.go_on.wait()
            return web.json_response(given[1], status=given[0])
        if mode == "hang":
            await self.go_on.wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        if (refused := self._refused(mode)) is not None:
            return refused
        status, content = self._given(form)
        if mode == "swallow":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if mode == "cut":
            response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
            await response.prepare(request)
            await response.write(json.dumps(content).encode()[:20])
            assert request.transport is not None
            request.transport.close()
            return response
        if mode == "huge":
            content["padding"] = "x" * 1_000_000
        if self.form:
            text = urlencode(content)
            return web.Response(status=status, text=text, content_type="application/x-www-form-urlencoded")
        return web.json_response(content, status=status)

    def _refused(self, mode: str) -> web.Response | None:
        match mode:
            case "html":
                return web.Response(text="<html>Maintenance</html>", content_type="text/html")
            case "error_500":
                return web.Response(status=503, text="no", headers={"Retry-After": "7"})
            case "error_429":
                return web.json_response({"error": "slow_down"}, status=429, headers={"Retry-After": "9"})
            case "invalid_grant":
                return web.json_response({"error": "invalid_grant"}, status=400)
            case "invalid_client":
                return web.json_response({"error": "invalid_client"}, status=401)
            case "github_error":
                return web.json_response({"error": "bad_refresh_token", "error_description": f"{CANARY}"})
            case _:
                return None

    def _given(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        refused = {"error": "invalid_grant", "error_description": f"{CANARY} free text"}
        if form["grant_type"] == "authorization_code":
            request = self.codes.pop(form["code"], None)
            if request is None or not _proves(request["code_challenge"], form["code_verifier"]):
                return 400, refused
            return 200, self._tokens(next(self._number), request.get("scope", ""))
        shown = form["refresh_token"]
        grant = self.current.get(shown)
        if grant is None:
            # Shown a second time: the grant ends for whoever holds it.
            if self.strict:
                ended = self.spent.get(shown)
                self.current = {token: each for token, each in self.current.items() if each != ended}
            return 400, refused
        if not self.rotates:
            return 200, self._tokens(grant, "", refresh=shown)
        del self.current[shown]
        self.spent[shown] = grant
        return 200, self._tokens(grant, "")

    def _tokens(self, grant: int, scope: str, refresh: str | None = None) -> dict[str, Any]:
        number = next(self._number)
        if refresh is None:
            refresh = f"{CANARY}-refresh-{number}"
            self.current[refresh] = grant
        given: dict[str, Any] = {"access_token": f"{CANARY}-access-{number}", "token_type": "bearer"}
        given["refresh_token"] = refresh
        if scope:
            given["scope"] = scope
        if self.expires_in is not None:
            given["expires_in"] = self.expires_in
        if self.refresh_expires_in is not None:
            given["refresh_token_expires_in"] = self.refresh_expires_in
        return given

    async def revoke(self, request: web.Request) -> web.Response:
        """RFC 7009."""
        self.asked.append(request.path)
        form = dict(parse_qsl((await request.read()).decode()))
        if self.revocation == 200:
            self.revoked.append(form["token"])
            self.current.pop(form["token"], None)
        return web.Response(status=self.revocation)

    async def delete_grant(self, request: web.Request) -> web.Response:
        """GitHub."""
        self.asked.append(request.path)
        self.revoked.append((await request.json())["access_token"])
        self.invalidate()
        return web.Response(status=204 if self.revocation == 200 else self.revocation)


def _proves(challenge: str, verifier: str) -> bool:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode() == challenge


@asynccontextmanager
async def running_double() -> AsyncIterator[Double]:
    """A provider on a free port of 127.0.0.1."""
    double = Double()
    application = web.Application()
    for path in ("/oauth/token", "/login/oauth/access_token", "/site/oauth2/access_token"):
        application.router.add_post(path, double.token)
    application.router.add_post("/oauth/revoke", double.revoke)
    application.router.add_delete("/api/v3/applications/{client}/grant", double.delete_grant)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    double.url = f"http://127.0.0.1:{port}"
    try:
        yield double
    finally:
        double.go_on.set()
        await runner.cleanup()
