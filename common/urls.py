"""Which URLs of others may be used with secrets: https, and http on this machine only, for development and tests."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["is_loopback", "is_loopback_url", "is_usable"]

_MAX_LENGTH = 2048


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its own words: `localhost`, 127.0.0.0/8 or ::1. No name is resolved."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback_url(url: str) -> bool:
    """Whether a URL leads to this machine."""
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def is_usable(url: str, *, loopback: bool, query: bool = False) -> bool:
    """Whether a URL may be fetched, or a browser be sent there.

    Args:
        url: as settings or others say it.
        loopback: whether this machine is fine, by http, too: others elsewhere must not make us send requests there.
        query: whether it may carry a query.
    """
    if len(url) > _MAX_LENGTH or not url.isascii() or any(character <= " " for character in url) or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises ValueError when it is none
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or parts.fragment or "#" in url or (parts.query and not query):
        return False
    if is_loopback(parts.hostname):
        return loopback and parts.scheme in ("http", "https")
    return parts.scheme == "https"
