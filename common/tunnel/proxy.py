"""Through an HTTP proxy, without I/O: which one the environment names, and the CONNECT to it (RFC 9110 section 9.3.6).

The environment is read as curl does: `HTTPS_PROXY` for `wss://`, `HTTP_PROXY` for `ws://`, `ALL_PROXY` for both,
`NO_PROXY` for exceptions, lower case before upper case. Loopback is never proxied: on another machine it would be
another place.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from websockets.uri import WebSocketURI

from common.secret import Secret
from common.tunnel.errors import HandshakeFailedError, ProxyRefusedError

__all__ = ["ConnectHandshake", "Proxy", "proxy_for"]

_HEAD_END: Final = b"\r\n\r\n"
_MAX_HEAD: Final = 16 * 1024
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([\t -~]*))?\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    credential: Secret | None
    """`user:password`, if the environment gives one."""


def proxy_for(url: WebSocketURI, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment names for a URL; None to go there directly.

    Raises:
        HandshakeFailedError: it names one that is not `http://`.
    """
    scheme = "https" if url.secure else "http"
    value = _look_up(environ, f"{scheme}_proxy") or _look_up(environ, "all_proxy")
    if not value or _is_loopback(url.host) or _is_excepted(url, _look_up(environ, "no_proxy")):
        return None
    if "://" not in value:
        value = f"http://{value}"
    try:
        parsed = urllib.parse.urlsplit(value)
        host, port = parsed.hostname, parsed.port
    except ValueError:
        host, port = None, None
    if host is None or parsed.scheme != "http":
        raise HandshakeFailedError(f"{scheme.upper()}_PROXY (or ALL_PROXY) is no http:// URL of a proxy")
    credential = None
    if parsed.username is not None:
        user, password = (urllib.parse.unquote(part or "") for part in (parsed.username, parsed.password))
        credential = Secret(f"{user}:{password}")
    return Proxy(host=host, port=port or 80, credential=credential)


def _look_up(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_excepted(url: WebSocketURI, no_proxy: str) -> bool:
    """Whether `no_proxy` names the relay: by `*`, its address, a network that holds it (CIDR), its name, or a domain
    that it is in; all but `*` and networks may have a port.
    """
    entries = no_proxy.lower().replace(",", " ").split()
    host = url.host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return any(entry == "*" or _is_domain_of(host, url.port, entry) for entry in entries)
    return any(entry == "*" or _is_network_of(address, url.port, entry) for entry in entries)


def _is_domain_of(host: str, port: int, entry: str) -> bool:
    name, colon, wanted = entry.partition(":")
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}")) and (not colon or wanted == str(port))


def _is_network_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, entry: str) -> bool:
    if entry in (f"{address}:{port}", f"[{address}]:{port}"):
        return True
    try:
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class ConnectHandshake:
    """One CONNECT: send `request`, then feed `receive` until it returns the bytes that follow the answer.

    Args:
        proxy: whom to ask.
        url: where to get to.
    """

    __slots__ = ("_buffer", "request")

    def __init__(self, proxy: Proxy, url: WebSocketURI) -> None:
        target = f"{_bracketed(url.host)}:{url.port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.credential is not None:
            value = base64.b64encode(proxy.credential.reveal().encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {value}")
        self.request = "\r\n".join(lines).encode("ascii") + _HEAD_END
        self._buffer = bytearray()

    def receive(self, data: bytes) -> bytes | None:
        """Take bytes of the connection; None while the answer is not whole, then what follows it.

        Raises:
            ProxyRefusedError: the proxy said no.
            HandshakeFailedError: its answer is broken or too long.
        """
        self._buffer += data
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise HandshakeFailedError("the HTTP proxy's answer is too long")
            if not b"HTTP/1.".startswith(self._buffer[:7]):
                raise HandshakeFailedError("the HTTP proxy does not answer as one")
            return None
        end += len(_HEAD_END)
        match = _STATUS_LINE.match(self._buffer)
        if match is None:
            raise HandshakeFailedError("the HTTP proxy's answer is not HTTP/1.1")
        status = int(match[1])
        if not 200 <= status < 300:
            phrase = (match[2] or b"").decode("ascii")
            advice = "; it wants other credentials in its URL, or some" if status == 407 else ""
            raise ProxyRefusedError(f"the HTTP proxy answered {status} {phrase}".rstrip() + advice, http_status=status)
        return bytes(self._buffer[end:])

    def receive_eof(self) -> HandshakeFailedError:
        """The proxy ended the connection; returns what that means."""
        return HandshakeFailedError("the HTTP proxy ended the connection before it answered")
