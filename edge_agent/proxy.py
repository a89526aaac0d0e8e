"""The HTTP proxy between the agent and the relay: which one, and how to get through it.

The environment decides, as for curl and most programs: `https_proxy` for `wss`, `http_proxy` for `ws`, `all_proxy` for
either, `no_proxy` for the exceptions, each in lower or upper case, lower case first. Loopback is never proxied.

Through the proxy goes a CONNECT tunnel (RFC 9110 section 9.3.6) for `ws` as for `wss`: a proxy that would forward a
plain request does not forward its upgrade. Credentials come from the proxy's URL and are sent as Basic (RFC 7617); they
are kept as secrets and are in no message of ours.

`ConnectRequest` is without I/O: the dialer moves its bytes.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from common.secret import Secret
from edge_agent.errors import ProxyError
from edge_agent.relay_url import RelayUrl, is_loopback

__all__ = ["ConnectRequest", "Proxy", "proxy_for"]

_MAX_HEAD = 16 * 1024
"""Bytes of the proxy's answer to CONNECT; an error page after the head is not read."""

_PLAIN_PORT = 80


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, spoken to without TLS."""

    host: str
    port: int
    authorization: Secret | None = None
    """The value of `Proxy-Authorization`."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def proxy_for(relay: RelayUrl, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment asks for on the way to `relay`; None: dial directly.

    Raises:
        ProxyError: it asks for one that cannot be used. To dial past it silently would be worse: a network that has a
            proxy mostly drops what goes around it, and nobody would know why.
    """
    if is_loopback(relay.host) or _excepted(relay, _first(environ, "no_proxy")):
        return None
    name = "https_proxy" if relay.secure else "http_proxy"
    text = _first(environ, name)
    if not text:
        name, text = "all_proxy", _first(environ, "all_proxy")
    return _parse(name.upper(), text) if text else None


def _first(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _parse(name: str, text: str) -> Proxy:
    try:
        # "proxy:3128" is what many people write; without a scheme it would be read as one.
        parts = urlsplit(text if "://" in text else "http://" + text)
        port = parts.port
    except ValueError:
        raise ProxyError(f"{name} is no URL") from None  # the cause would quote it, with its password
    if parts.scheme != "http":
        raise ProxyError(f"{name} names a proxy of another kind; only http:// proxies with CONNECT are supported")
    if not parts.hostname:
        raise ProxyError(f"{name} names no host")
    return Proxy(parts.hostname, _PLAIN_PORT if port is None else port, _authorization(parts))


def _authorization(parts: SplitResult) -> Secret | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Secret("Basic " + base64.b64encode(pair.encode()).decode("ascii"))


def _excepted(relay: RelayUrl, no_proxy: str) -> bool:
    """Whether `no_proxy` names the relay: `*`, an address, a network in CIDR, or a domain and all that is under it;
    each but `*` may be followed by a port.
    """
    return any(_matches(entry.strip().lower(), relay) for entry in no_proxy.replace(" ", ",").split(",") if entry)


def _matches(entry: str, relay: RelayUrl) -> bool:
    if entry == "*":
        return True
    host = relay.host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        return address is not None and address in network
    name, colon, port = entry.rpartition(":")
    if not colon:
        name, port = entry, ""
    elif port != str(relay.port):
        return False
    if address is not None:
        return name.strip("[]") == host
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith("." + domain))


class ConnectRequest:
    """One CONNECT: `data_to_send` goes to the proxy, what it answers goes to `receive_data` until that says True.

    Args:
        relay: what to connect to.
        proxy: through what.
    """

    __slots__ = ("_head", "_proxy", "_relay")

    def __init__(self, relay: RelayUrl, proxy: Proxy) -> None:
        self._relay = relay
        self._proxy = proxy
        self._head = bytearray()

    def data_to_send(self) -> bytes:
        """The request, whole."""
        authority = self._relay.authority
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", "User-Agent: homeport-agent"]
        if self._proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {self._proxy.authorization.reveal()}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def receive_data(self, data: bytes) -> bool:
        """Feed bytes of the answer; True once the way to the relay is open.

        Raises:
            ProxyError: it refused, speaks something else, or sent bytes that nobody can have asked it for: on this
                connection the agent speaks first, in TLS as in HTTP.
        """
        self._head += data
        # A proxy may end its lines with LF alone (RFC 9112 section 2.2 lets us accept that).
        end, length = self._head.find(b"\r\n\r\n"), 4
        if end < 0:
            end, length = self._head.find(b"\n\n"), 2
        if end < 0:
            if len(self._head) > _MAX_HEAD:
                raise ProxyError(f"the proxy {self._proxy} answered CONNECT with more than {_MAX_HEAD} bytes of head")
            if not b"HTTP/1.".startswith(bytes(self._head[:7])):
                raise ProxyError(f"{self._proxy} does not answer as an HTTP proxy does")
            return False
        status, reason = self._status(bytes(self._head[:end]))
        if not 200 <= status < 300:
            raise ProxyError(f"the proxy {self._proxy} refused to connect to {self._relay.authority}: {status}{reason}")
        if len(self._head) > end + length:
            raise ProxyError(f"the proxy {self._proxy} sent bytes after its answer to CONNECT")
        return True

    def receive_eof(self) -> None:
        """The proxy hung up before its answer was complete.

        Raises:
            ProxyError: always.
        """
        raise ProxyError(f"the proxy {self._proxy} closed the connection without an answer to CONNECT")

    def _status(self, head: bytes) -> tuple[int, str]:
        line = head.split(b"\n", 1)[0].rstrip(b"\r")
        version, _, rest = line.partition(b" ")
        digits = rest[:3]
        if version not in (b"HTTP/1.0", b"HTTP/1.1") or len(digits) != 3 or not digits.isdigit():
            raise ProxyError(f"{self._proxy} does not answer as an HTTP proxy does")
        if digits == b"407":
            had = "has refused the credentials in its URL" if self._proxy.authorization else "wants credentials"
            return 407, f" (it {had}: http://USER:PASSWORD@{self._proxy})"
        reason = "".join(c for c in rest[3:83].decode("latin-1") if c.isascii() and c.isprintable())
        return int(digits), reason
