"""Request targets: taken apart, and refused where two readers could disagree about them.

A path decides which device is reached, and the same path is read again by the service, by proxies on the way and by
browsers. They differ in what they make of `//`, `/../`, an encoded slash or a backslash. Nothing of the kind is
repaired here, because a repaired path is not what the others saw: it is refused (400 `bad_path`), in every part of it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from api_server.gateway.errors import BadPathError

__all__ = ["SplitTarget", "check_path", "is_authority", "split_target"]

_PATH: Final = re.compile(rb"/[!$-;=?-\[\]-_a-z{-~]*")
"""Visible ASCII (RFC 3986 section 3.3, and the few characters more that browsers leave alone) without `\\`, quotes,
angle brackets, `#` and the back-tick. `?` cannot be in it: it ended the path."""

_QUERY: Final = re.compile(rb"[!-\"$-~]*")
"""Visible ASCII without `#`."""

_AUTHORITY: Final = re.compile(rb"(?:[0-9A-Za-z._~\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
"""Host and port (RFC 3986 section 3.2), without user information, which RFC 9110 section 4.2.4 bids us refuse."""

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})|%(?:2[fF]|5[cC]|[01][0-9A-Fa-f]|7[fF])")
"""No escape at all, or that of a slash, a backslash or a control character."""

_ESCAPED_DOT: Final = re.compile(rb"%2[eE]")

_DOT_SEGMENT: Final = re.compile(rb"/\.{1,2}(?:;[^/]*)?(?:/|\Z)")
"""`.` and `..` (RFC 3986 section 3.3), also with parameters, which Java servers drop before they look at the dots."""


class SplitTarget(NamedTuple):
    """A request target in parts."""

    authority: bytes | None
    """Host and port of an absolute target, which then stands for the Host header (RFC 9112 section 3.2.2)."""
    path: bytes
    query: bytes | None
    """Without the question mark; None when there is none."""


def split_target(target: bytes) -> SplitTarget:
    """Take a request target apart; checks everything but the path, which `check_path` does.

    Raises:
        BadPathError: neither a path nor an `http` URL (RFC 9112 section 3.2).
    """
    authority = None
    if not target.startswith(b"/"):
        scheme, separator, rest = target.partition(b"://")
        if not separator or scheme.lower() not in (b"http", b"https"):
            raise BadPathError("the request target must be a path or an http URL")
        at = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
        authority, target = rest[:at], rest[at:]
        if not target.startswith(b"/"):
            target = b"/" + target
        if not is_authority(authority):
            raise BadPathError("the host in the request target is not one")
    path, mark, query = target.partition(b"?")
    if not mark:
        return SplitTarget(authority, path, None)
    if _QUERY.fullmatch(query) is None:
        raise BadPathError("the query holds a character that must be percent-encoded")
    return SplitTarget(authority, path, query)


def is_authority(text: bytes) -> bool:
    """Whether `text` is a host with or without a port."""
    return _AUTHORITY.fullmatch(text) is not None


def check_path(path: bytes) -> None:
    """Refuse a path that two readers could understand differently.

    Raises:
        BadPathError: it is one; the detail says why.
    """
    if _PATH.fullmatch(path) is None:
        raise BadPathError("the path holds a character that must be percent-encoded")
    if b"//" in path:
        raise BadPathError("the path has an empty segment (//)")
    if b"%" in path:
        if _BAD_ESCAPE.search(path) is not None:
            raise BadPathError("the path holds a broken percent-encoding, or one that hides a slash")
        path = _ESCAPED_DOT.sub(b".", path)
    if b"/." in path and _DOT_SEGMENT.search(path) is not None:
        raise BadPathError("the path has a dot segment (. or ..)")
