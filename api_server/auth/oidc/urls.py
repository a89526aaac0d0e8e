"""Which URLs of a provider may be used: https, and http on loopback only, for development and tests."""

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
        url: as the settings or the provider say it.
        loopback: whether http to this machine is fine, too. It is when the issuer is there: a provider elsewhere must
            not make us send requests to our own machine.
        query: whether it may carry a query, as an endpoint may and an issuer may not (Discovery section 3).
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
