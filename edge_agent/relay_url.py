"""Where the relay is.

    wss://relay.example:443/tunnel     what it comes to; `https` and `http` are read as `wss` and `ws`, `/tunnel` and
                                       the port may be left out

The session token goes in a header and nowhere else, so a URL with a query, a fragment or credentials is refused rather
than repaired. A token must not cross a network in the clear: `ws://` is for loopback, unless the user insists.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge_agent.errors import RelayUrlError

__all__ = ["RelayUrl", "is_loopback"]

_DEFAULT_PATH = "/tunnel"
_SECURE = {"wss": True, "https": True, "ws": False, "http": False}


@dataclass(frozen=True, slots=True)
class RelayUrl:
    """The relay's tunnel endpoint, taken apart."""

    secure: bool
    """TLS."""
    host: str
    """A name or an IP literal, without brackets."""
    port: int
    path: str

    @classmethod
    def parse(cls, text: str, *, allow_plaintext: bool = False) -> RelayUrl:
        """Read a URL.

        Args:
            text: the URL.
            allow_plaintext: accept `ws://` to another machine.

        Raises:
            RelayUrlError: it cannot be read, holds more than an address, or would send the token in the clear.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:  # its text quotes a part of the URL, which may be a secret in the wrong place
            raise RelayUrlError("the relay URL cannot be read; check its brackets and its port") from None
        secure = _SECURE.get(parts.scheme)
        if secure is None or not parts.hostname:
            raise RelayUrlError("a relay URL looks like wss://relay.example/tunnel, or ws://127.0.0.1:3800/tunnel")
        if parts.username is not None or parts.password is not None:
            raise RelayUrlError("a relay URL holds no user name or password; the token is read from the token file")
        if "?" in text or "#" in text:
            raise RelayUrlError("a relay URL has no query and no fragment; the token is read from the token file")
        try:
            parts.hostname.encode("idna")  # what the resolver would say, when nobody catches it
        except UnicodeError:
            raise RelayUrlError("the host of the relay URL is no host name") from None
        if port == 0:
            raise RelayUrlError("port 0 cannot be dialled")
        path = parts.path if parts.path not in ("", "/") else _DEFAULT_PATH
        if not (path.isascii() and path.isprintable()) or " " in path:
            raise RelayUrlError("the path of a relay URL must be printable ASCII; percent-encode the rest")
        if not secure and not allow_plaintext and not is_loopback(parts.hostname):
            raise RelayUrlError(
                f"ws:// to {parts.hostname} would send the session token unencrypted; use wss://, or set "
                "allow_plaintext where the network is your own"
            )
        return cls(secure, parts.hostname, port or (443 if secure else 80), path)

    @property
    def authority(self) -> str:
        """`host:port`, with brackets where RFC 3986 section 3.2.2 wants them: what CONNECT asks for."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.path}"


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by its very spelling: no name is resolved."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
