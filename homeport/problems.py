"""Reads problem+json answers (RFC 9457) of our own servers, and bears with answers of whatever stands before them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

__all__ = ["Problem", "read_problem"]

_MAX_TEXT = 500
"""Characters of somebody else's error page that are worth showing."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, in words and as a stable code; the code is empty when the answer has none."""

    code: str
    detail: str


def read_problem(status: int, body: bytes) -> Problem:
    """The problem in an answer of status 400 or above; never raises, whatever the body holds."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        code, detail = document.get("code"), document.get("detail") or document.get("title")
        if isinstance(code, str) and isinstance(detail, str):
            return Problem(code, detail)
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "an unknown status"
    text = " ".join(body.decode("utf-8", "replace").split())
    readable = text if text.isprintable() and not text.startswith("<") else ""
    return Problem("", f"{status} {phrase}" + (f": {readable[:_MAX_TEXT]}" if readable else ""))
