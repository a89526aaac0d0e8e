"""`/openapi.json`, `/docs` and `/docs/errors`: made of the routes themselves, when somebody first asks."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec
from aiohttp import web

from api_server.http.openapi import openapi_document
from api_server.http.pages import PAGE_POLICY, errors_page, reference_page
from api_server.http.routes import Route
from common.errors import HomeportError

__all__ = ["ReferenceEndpoints", "all_errors"]


def all_errors() -> list[type[HomeportError]]:
    """Every kind of error in the process that has a code of its own: one a code, by code."""
    found: list[type[HomeportError]] = []
    waiting = [HomeportError]
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        if "code" in vars(error):
            found.append(error)
    # Which one stands for a code that several have must not depend on the order of imports.
    found.sort(key=lambda error: (error.__module__, error.__qualname__), reverse=True)
    by_code = {error.code: error for error in found}
    return [by_code[code] for code in sorted(by_code)]


class ReferenceEndpoints:
    """Serves the reference.

    Args:
        routes: that it describes, beside its own.
        version: of the API.
    """

    def __init__(self, routes: list[Route], *, version: str) -> None:
        self._described = routes
        self._version = version

    @cached_property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return openapi_document([*self._described, *self.routes()], version=self._version)

    @cached_property
    def _json(self) -> bytes:
        return msgspec.json.encode(self.document)

    @cached_property
    def _page(self) -> str:
        return reference_page(self.document)

    @cached_property
    def _errors(self) -> str:
        return errors_page(all_errors())

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(method="GET", path="/", handler=self.redirect_to_reference, status=303, media_type="text/html"),
            Route(method="GET", path="/openapi.json", handler=self.show_document),
            Route(method="GET", path="/docs", handler=self.show_reference, media_type="text/html"),
            Route(method="GET", path="/docs/errors", handler=self.show_errors, media_type="text/html"),
        ]

    async def redirect_to_reference(self) -> web.Response:
        """Where a person who opens the API in a browser is sent."""
        return web.Response(status=303, headers={"Location": "/docs"})

    async def show_document(self) -> web.Response:
        """Show this API as an OpenAPI 3.1 document."""
        return web.Response(body=self._json, content_type="application/json")

    async def show_reference(self) -> web.Response:
        """Show this API as a page."""
        return _page(self._page)

    async def show_errors(self) -> web.Response:
        """Show the codes of all errors as a page."""
        return _page(self._errors)


def _page(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})
