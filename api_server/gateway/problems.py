"""Errors as HTTP responses: problem+json (RFC 9457), written by hand because there is no framework below.

A response of the gateway itself carries `X-Homeport-Error` with the code; a device cannot send that header, so a client
can tell whether the gateway speaks or the device.
"""

from __future__ import annotations

import math
from email.utils import formatdate
from http import HTTPStatus

import msgspec

from api_server.auth.browsers import BrowserRedirect
from api_server.auth.credentials import challenges
from api_server.auth.errors import UnauthenticatedError
from api_server.gateway.errors import UpgradeRequiredError
from api_server.limits.errors import QuotaExceededError
from api_server.limits.headers import refusal_fields
from common.errors import HomeportError

__all__ = ["browser_response", "preflight_response", "problem_response", "redirect_response"]


def problem_response(
    error: HomeportError,
    *,
    head_only: bool,
    close: bool,
    now: float,
    realm: str | None,
    added: bytes = b"",
    password: bool = True,
) -> bytes:
    """`error` as a complete response.

    Args:
        head_only: the request was HEAD: the same head, without the body.
        close: the connection ends with it.
        now: seconds since the Unix epoch, for `Date`.
        realm: protection space of a 401; None for the gateway as a whole.
        added: lines more, each with its end.
        password: a browser may ask its user for a password on a 401.
    """
    body = msgspec.json.encode(error.problem())
    lines = [
        *_start(error.status, now),
        "Content-Type: application/problem+json",
        "Cache-Control: no-store",
        f"X-Homeport-Error: {error.code}",
        f"Content-Length: {len(body)}",
    ]
    if isinstance(error, QuotaExceededError):
        lines += [f"{name}: {value}" for name, value in refusal_fields(error).items()]
    if error.retry_after is not None:
        lines.append(f"Retry-After: {max(0, math.ceil(error.retry_after))}")
    if isinstance(error, UnauthenticatedError):
        offered = challenges(realm or "homeport")
        lines += [f"WWW-Authenticate: {challenge}" for challenge in (offered if password else offered[:1])]
    if isinstance(error, UpgradeRequiredError):
        lines.append("Upgrade: homeport-tcp, websocket")
    options = [*(["close"] if close else []), *(["Upgrade"] if isinstance(error, UpgradeRequiredError) else [])]
    if options:
        lines.append(f"Connection: {', '.join(options)}")
    return _join(lines, added) + (b"" if head_only else body)


def redirect_response(location: bytes, *, close: bool, now: float) -> bytes:
    """A 308 to `location`, which is a path of ours."""
    lines = [*_start(308, now), f"Location: {location.decode('ascii')}", "Content-Length: 0"]
    if close:
        lines.append("Connection: close")
    return _join(lines)


def browser_response(redirect: BrowserRedirect, *, close: bool, now: float) -> bytes:
    """A 303 that sends a browser on, on its way of signing in."""
    lines = [
        *_start(303, now),
        f"Location: {redirect.url}",
        *(f"Set-Cookie: {cookie}" for cookie in redirect.cookies),
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "Content-Length: 0",
    ]
    if close:
        lines.append("Connection: close")
    return _join(lines)


def preflight_response(leave: bytes, *, close: bool, now: float) -> bytes:
    """A 204 to a browser that asked leave for a page of another origin.

    Args:
        leave: the lines that say what is allowed, each with its end.
        close: the connection ends with it.
        now: seconds since the Unix epoch, for `Date`.
    """
    return _join([*_start(204, now), *(["Connection: close"] if close else [])], leave)


def _start(status: int, now: float) -> list[str]:
    return [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {formatdate(now, usegmt=True)}"]


def _join(lines: list[str], added: bytes = b"") -> bytes:
    return ("\r\n".join(lines) + "\r\n").encode("latin-1") + added + b"\r\n"
