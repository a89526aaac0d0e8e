"""People's browsers at the gateway: which requests are theirs, and where they come back when they have signed in."""

from __future__ import annotations

import re
from typing import Final

from api_server.auth.browsers import FINISH_PATH, BrowserRedirect, BrowserSignIn
from api_server.gateway.requests import RequestHead
from api_server.gateway.targets import Target

__all__ = ["has_fetch_metadata", "is_navigation", "ticket_of", "to_sign_in"]

_FINISH_PATH: Final = FINISH_PATH.encode("ascii")

_HTML: Final = re.compile(rb"\r\naccept:[^\r\n]*text/html", re.IGNORECASE)
_MODE: Final = re.compile(rb"\r\nsec-fetch-mode:[ \t]*([a-z-]+)", re.IGNORECASE)
_DESTINATION: Final = re.compile(rb"\r\nsec-fetch-dest:[ \t]*([a-z-]+)", re.IGNORECASE)

_TICKET: Final = re.compile(rb"ticket=([A-Za-z0-9_.-]+)")


def is_navigation(head: RequestHead) -> bool:
    """Whether a person opens a page with a browser, in a tab of its own: what a redirect to another site is of use for.
    A script that asks for data, an image or a frame gets an error that it can read.
    """
    if head.method != b"GET" or head.fields.upgrade or _HTML.search(head.received) is None:
        return False
    mode, destination = _MODE.search(head.received), _DESTINATION.search(head.received)
    return (mode is None or mode[1] == b"navigate") and (destination is None or destination[1] == b"document")


def has_fetch_metadata(head: RequestHead) -> bool:
    """Whether a browser made the request (Fetch Metadata), which would ask its user for a password on a 401."""
    return _MODE.search(head.received) is not None


def ticket_of(head: RequestHead) -> str | None:
    """The ticket with which a browser comes back that has signed in; None for any other request."""
    if head.target.path != _FINISH_PATH or head.method != b"GET":
        return None
    match = _TICKET.fullmatch(head.target.query or b"")
    return match[1].decode("ascii") if match is not None else ""


def to_sign_in(browsers: BrowserSignIn, head: RequestHead, target: Target) -> BrowserRedirect | None:
    """Where a person's browser is sent that is not known at a target; None for any other request, or where nobody signs
    in.
    """
    if target.raw or not is_navigation(head):
        return None
    path, query = head.target.path, head.target.query
    return browsers.begin(
        host=head.fields.host.decode("ascii"),
        target=(path if query is None else b"%b?%b" % (path, query)).decode("ascii"),
        root=target.prefix.decode("ascii") + "/",
        realm=target.realm,
    )
