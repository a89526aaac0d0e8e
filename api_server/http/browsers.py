"""What protects a person's browser: headers on every answer, and a check of who makes it send a request.

A browser that was given a credential for this origin sends it along with requests that other sites trigger. So an
unsafe method (RFC 9110 section 9.2.1) is refused unless the browser says that this very origin makes it. `same-site` is
refused as well: the gateway, where devices serve their pages, is of the same site and of another origin.

A request without `Sec-Fetch-Site` and `Origin` comes from no browser of the last years, and passes.

An unsafe request whose identity is that of a cookie also needs the header `X-Homeport-CSRF`, whatever its value: a
page of another origin can have a browser send it only after a preflight (Fetch section 3.2), which nobody answers here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from api_server.http.errors import CrossSiteRequestError

__all__ = ["CSRF_HEADER", "SAFE_METHODS", "SECURITY_HEADERS", "has_csrf_header", "refuse_cross_site"]

CSRF_HEADER: Final = "X-Homeport-CSRF"

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "homeport",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer that does not set its own. A page replaces the content policy by one for itself."""


def refuse_cross_site(method: str, headers: Mapping[str, str], own_origins: frozenset[str]) -> None:
    """Refuse an unsafe request that a browser makes for another origin.

    Args:
        method: of the request.
        headers: of the request, with names in any case.
        own_origins: `scheme://host[:port]` of this API.

    Raises:
        CrossSiteRequestError: it is one.
    """
    if method in SAFE_METHODS:
        return
    fetch_site = headers.get("Sec-Fetch-Site")
    if fetch_site is not None:
        # `none`: the person did it, in the address bar or a bookmark.
        if fetch_site not in ("same-origin", "none"):
            raise CrossSiteRequestError("the browser says that another origin makes this request")
        return
    origin = headers.get("Origin")
    if origin is not None and origin.lower() not in own_origins:
        raise CrossSiteRequestError("the Origin of this request is not that of the API")


def has_csrf_header(headers: Mapping[str, str]) -> bool:
    """Whether a request carries the header that no page of another origin can add."""
    return CSRF_HEADER in headers
