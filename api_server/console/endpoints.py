"""`/device` and `/invitations/{id}`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from api_server.console.page import Page
from api_server.console.pages import DEVICE, INVITATION
from api_server.http.routes import Route

__all__ = ["ConsoleEndpoints"]


class DeviceQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the page's script reads."""

    user_code: Annotated[
        Annotated[str, Meta(max_length=64)] | None, Meta(description="The code, so that it need not be typed.")
    ] = None


class LinkPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names an invitation."""

    id: Annotated[str, Meta(description="Id of the invitation.")]


class ConsoleEndpoints:
    """Serves the pages."""

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(method="GET", path="/device", handler=self.device_page, media_type="text/html"),
            Route(method="GET", path="/invitations/{id}", handler=self.invitation_page, media_type="text/html"),
        ]

    async def device_page(self, query: DeviceQuery) -> web.StreamResponse:  # noqa: ARG002  for the page's script
        """Approve a device, in a browser.

        The verification URI of the device flow (RFC 8628 section 3.3).
        """
        return _response(DEVICE)

    async def invitation_page(self, path: LinkPath) -> web.StreamResponse:  # noqa: ARG002  for the page's script
        """Accept an invitation, in a browser.

        The token stands behind the `#` of the link, and so in no log.
        """
        return _response(INVITATION)


def _response(page: Page) -> web.Response:
    return web.Response(text=page.html, content_type="text/html", headers={"Content-Security-Policy": page.policy})
