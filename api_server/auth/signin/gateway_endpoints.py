"""`/api/auth/gateway`: where the gateway sends a browser whose person it does not know.

A provider's page may say which sites its form leads to, and Chromium holds it to that for all redirects that follow
(Content Security Policy, `form-action`): they may end at the console, which the provider knows, and not at the gateway.
So whoever comes from signing in is not redirected but shown a page that goes on by itself.
"""

from __future__ import annotations

from html import escape
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from api_server.auth.browsers import Places
from api_server.auth.errors import ForbiddenError
from api_server.auth.signin.errors import NothingToSignInToError, SignInNotConfiguredError
from api_server.auth.signin.gateway import GATEWAY_PATH, GatewaySignIn
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.routes import Route

__all__ = ["GatewaySignInEndpoints"]


class GatewaySignInQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gateway says about the browser that it sends."""

    return_to: Annotated[str, Meta(min_length=1, max_length=1024, description="URL of the page at the gateway.")]
    state: Annotated[
        str, Meta(pattern="^[0-9a-f]{64}$", description="Hash of the nonce that the gateway gave to the browser.")
    ]
    by: Annotated[
        Literal["redirect", "page"],
        Meta(description="How the browser is sent on; a page is for one that comes from a form of another site."),
    ] = "redirect"


class GatewaySignInEndpoints:
    """Serves it.

    Args:
        sign_in: makes tickets.
        places: of the gateway.
    """

    def __init__(self, sign_in: GatewaySignIn, places: Places) -> None:
        self._sign_in = sign_in
        self._places = places

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(
                method="GET",
                path=GATEWAY_PATH,
                handler=self.open_page,
                status=303,
                media_type="text/html",
                errors=(
                    ForbiddenError,
                    NothingToSignInToError,
                    SignInNotConfiguredError,
                    DatabaseUnavailableError,
                ),
            )
        ]

    async def open_page(self, query: GatewaySignInQuery, request: web.Request) -> web.Response:
        """Go to a page of the gateway, signed in.

        For browsers, which the gateway sends here. One that is signed in, as somebody who may call what is served,
        goes back with a ticket that counts once, for 30 seconds and in this browser. One that is not signs in first.
        """
        onward = await self._sign_in.onward(
            self._places,
            return_to=query.return_to,
            state=query.state,
            cookies="; ".join(request.headers.getall("Cookie", ())),
        )
        if onward.signed_in and query.by == "page":
            return web.Response(text=_page(onward.url), content_type="text/html")
        return web.Response(status=303, headers={"Location": onward.url})


def _page(url: str) -> str:
    """A page that goes on by itself, without a script."""
    target = escape(url, quote=True)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Homeport</title>'
        f'<meta http-equiv="refresh" content="0; url={target}"></head>'
        f'<body><p>You are signed in. <a href="{target}">Go on to the page</a></p></body></html>'
    )
