"""Path prefixes of routes: what may be one, in the one spelling in which it is kept and compared (G1).

A prefix is checked as the path of a request is (`gateway.paths.check_path`), brought into the normal form of RFC 3986
section 6.2.2 and stripped of a slash at its end, so that two prefixes are equal exactly when they match the same paths.
"""

from __future__ import annotations

import re
from typing import Final

from api_server.gateway.errors import BadPathError
from api_server.gateway.paths import check_path
from api_server.http.errors import ValidationFailedError

__all__ = ["MAX_PREFIX", "ancestors", "normal_path", "normal_prefix"]

MAX_PREFIX: Final = 250
"""Characters."""

_RESERVED: Final = ("/d", "/t", "/.homeport", "/.well-known")
"""First segments that are the gateway's own: devices, raw TCP, its own pages, and what others say of a host."""

_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")

_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""RFC 3986 section 2.3: escaped or not, they mean the same."""


def normal_path(path: bytes) -> bytes:
    """The normal form of a path that `check_path` has let through."""
    if b"%" not in path:
        return path
    return _ESCAPE.sub(_normal_escape, path)


def _normal_escape(match: re.Match[bytes]) -> bytes:
    value = int(match[1], 16)
    return bytes((value,)) if value in _UNRESERVED else b"%%%02X" % value


def normal_prefix(text: str) -> str:
    """A prefix as it is kept.

    Raises:
        ValidationFailedError: it can be none.
    """
    if not text.isascii() or len(text) > MAX_PREFIX:
        raise ValidationFailedError(f"body: path is ASCII, and has at most {MAX_PREFIX} characters")
    raw = text.encode("ascii")
    try:
        check_path(raw)
    except BadPathError as exc:
        raise ValidationFailedError(f"body: path cannot be one: {exc.detail}") from exc
    if b";" in raw or b"?" in raw:
        raise ValidationFailedError("body: path has no parameters (;) and no query (?)")
    prefix = normal_path(raw).decode("ascii")
    prefix = prefix.removesuffix("/") or "/"
    if any(prefix == each or prefix.startswith(each + "/") for each in _RESERVED):
        raise ValidationFailedError(f"body: paths below {', '.join(_RESERVED)} are the gateway's own")
    return prefix


def ancestors(prefix: str) -> list[str]:
    """The prefixes that this one lies below, but `/`."""
    parts = prefix.split("/")[1:-1]
    return ["/" + "/".join(parts[: end + 1]) for end in range(len(parts))]
