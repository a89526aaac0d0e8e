"""What the place of a mirror may look like: criterion C5, in so far as a URL can tell.

A destination is pinned as one text: scheme, host, port, and path or bucket, spelt in one way. Credentials, queries and
fragments in it are refused, as is every way without TLS that leaves this machine.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from api_server.custody.errors import DestinationSettingsError

__all__ = ["Place", "place_of"]

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9_~][A-Za-z0-9._~-]{0,127}){0,16}/?", re.ASCII)
_PORTS = {"https": 443, "http": 80}


class Place:
    """Where a URL leads, in one spelling."""

    __slots__ = ("host", "origin", "path", "scheme")

    def __init__(self, scheme: str, host: str, port: int, path: str) -> None:
        self.scheme = scheme
        self.host = host
        shown = f"[{host}]" if ":" in host else host
        self.origin = f"{scheme}://{shown}" + ("" if port == _PORTS[scheme] else f":{port}")
        self.path = path

    @property
    def url(self) -> str:
        """The URL."""
        return self.origin + self.path


def place_of(url: str, setting: str) -> Place:
    """Where a URL leads.

    Args:
        url: as it was set.
        setting: its name, for errors; they do not quote the URL, which may hold a password.

    Raises:
        DestinationSettingsError: it is not https (http for this machine alone), or is more than a plain URL.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise DestinationSettingsError(f"{setting} is no URL") from None
    if parts.username is not None or parts.password is not None:
        raise DestinationSettingsError(f"{setting} must not hold a name or password; each has a setting of its own")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise DestinationSettingsError(f"{setting} must not have a query or fragment")
    if not (_HOST.fullmatch(host) or _is_address(host)):
        raise DestinationSettingsError(f"{setting} must name a host, in ASCII")
    if parts.scheme not in _PORTS or (parts.scheme == "http" and not _is_here(host)):
        raise DestinationSettingsError(f"{setting} must begin with https://; http:// is for this machine alone")
    if _PATH.fullmatch(parts.path) is None or ".." in parts.path:
        raise DestinationSettingsError(f"{setting} must have a plain path: letters, digits, dots, hyphens, underscores")
    return Place(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, parts.path.rstrip("/"))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_here(host: str) -> bool:
    """Whether a host is this machine; names other than `localhost` are not, whatever they resolve to just now."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
