"""The one place where an error becomes an answer: problem+json (RFC 9457) with a stable `code`."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from aiohttp import web

from api_server.auth.credentials import challenges
from api_server.auth.errors import UnauthenticatedError
from api_server.http.errors import MethodNotAllowedError
from common.errors import HomeportError
from common.logging import mask

__all__ = ["Problem", "problem_of", "problem_response"]

MEDIA_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every error looks like (RFC 9457 section 3.1), with two members of ours: `code` and `request_id`."""

    type: str
    """A name for the kind of problem."""
    title: str
    """The kind of problem, for people."""
    status: int
    code: str
    """The kind of problem, for programs; it never changes."""
    detail: str
    """What was wrong this time, for people."""
    request_id: str | None = None
    """Names the request in the log."""


def problem_of(error: HomeportError, request_id: str | None = None) -> Problem:
    """`error` as it is shown.

    A detail of a validation may name what the caller sent; if that looks like a credential it is masked, because
    answers end up in the logs of clients.
    """
    return msgspec.convert({**error.problem(), "detail": mask(error.detail), "request_id": request_id}, Problem)


def problem_response(error: HomeportError, request_id: str | None = None, *, scripted: bool = False) -> web.Response:
    """`error` as an answer, with the headers that its status calls for.

    Args:
        error: what went wrong.
        request_id: names the request in the log.
        scripted: a page's script made the request. It gets no challenge for which a browser would ask its user for a
            password, and keep the script waiting meanwhile; the page offers the sign-in.
    """
    problem: Any = problem_of(error, request_id)
    response = web.Response(status=error.status, body=msgspec.json.encode(problem), content_type=MEDIA_TYPE)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(0, math.ceil(error.retry_after)))
    if isinstance(error, UnauthenticatedError):
        bearer, basic = challenges()
        for challenge in (bearer,) if scripted else (bearer, basic):
            response.headers.add("WWW-Authenticate", challenge)
    if isinstance(error, MethodNotAllowedError):
        response.headers["Allow"] = ", ".join(error.allowed)
    return response
